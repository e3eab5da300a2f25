"""The templates of emails: Jinja2, from a folder, in a sandbox.

    templates/email/welcome/subject.txt      one line
    templates/email/welcome/body.txt         plain text
    templates/email/welcome/body.html        HTML; values are escaped
    templates/email/tenants/acme/welcome/    what acme has instead; a file that is missing here is the common one

A template has a subject and at least one body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jinja2 import TemplateError, TemplateNotFound

from cgk_tasks.builtin.email.sandbox import TENANTS, Sandbox, TenantLoader
from cgk_tasks.builtin.library_errors import LIBRARY_ERRORS
from cgk_tasks.config import get_settings
from cgk_tasks.errors import PermanentError

_TEMPLATE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An email's texts; at least one of the bodies is there."""

    subject: str
    text: str | None
    html: str | None


def render(tenant_id: str, template_id: str, data: Mapping[str, Any]) -> Rendered:
    """Fill a template in. It sees the fields of `data`, and `tenant_id`.

    Raises PermanentError: RECORD_NOT_FOUND without such a template, INVALID_INPUT where it cannot be filled in.
    """
    folder = get_settings().email_templates
    if not _TEMPLATE_ID.fullmatch(template_id) or template_id.casefold() == TENANTS:
        raise PermanentError(f"{template_id!r} is no template id: letters, digits, _, . and - only.", "INVALID_INPUT")
    sandbox = _sandbox(folder, tenant_id)
    values = {**data, "tenant_id": tenant_id}
    reason, cause = "", None
    try:
        subject = _part(sandbox, f"{template_id}/subject.txt", values)
        text = _part(sandbox, f"{template_id}/body.txt", values)
        html = _part(sandbox, f"{template_id}/body.html", values)
    except MemoryError:
        reason = "it needs more memory than there is"
    except RecursionError:
        reason = "it includes or calls itself without end, or is too deep"
    except (TemplateError, *LIBRARY_ERRORS) as exc:
        reason, cause = f"{type(exc).__name__}: {exc}", exc
    if reason:  # outside of the except: nothing that the template has made is kept alive by a traceback
        raise PermanentError(f"The template {template_id!r} cannot be filled in: {reason}", "INVALID_INPUT") from cause
    if subject is None or (text is None and html is None):
        raise PermanentError(
            f"There is no template {template_id!r}: it needs {folder / template_id}/subject.txt, and body.txt or "
            "body.html beside it.",
            "RECORD_NOT_FOUND",
        )
    return Rendered(" ".join(subject.split()), text, html)


def _part(sandbox: Sandbox, name: str, values: dict[str, Any]) -> str | None:
    try:
        return sandbox.fill_in(name, values)
    except TemplateNotFound as exc:
        if exc.name == name:
            return None
        raise


@lru_cache(maxsize=256)
def _sandbox(folder: Path, tenant_id: str) -> Sandbox:
    return Sandbox(TenantLoader(folder, tenant_id))
