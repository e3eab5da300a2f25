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

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cgk_tasks.config import get_settings
from cgk_tasks.errors import PermanentError

_TEMPLATE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TENANTS: Final = "tenants"


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
    if not _TEMPLATE_ID.fullmatch(template_id) or template_id == _TENANTS:
        raise PermanentError(f"{template_id!r} is no template id: letters, digits, _, . and - only.", "INVALID_INPUT")
    environment = _environment(folder, tenant_id)
    values = {**data, "tenant_id": tenant_id}
    try:
        subject = _part(environment, f"{template_id}/subject.txt", values)
        text = _part(environment, f"{template_id}/body.txt", values)
        html = _part(environment, f"{template_id}/body.html", values)
    except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as exc:
        raise PermanentError(
            f"The template {template_id!r} cannot be filled in: {type(exc).__name__}: {exc}", "INVALID_INPUT"
        ) from exc
    if subject is None or (text is None and html is None):
        raise PermanentError(
            f"There is no template {template_id!r}: it needs {folder / template_id}/subject.txt, and body.txt or "
            "body.html beside it.",
            "RECORD_NOT_FOUND",
        )
    return Rendered(" ".join(subject.split()), text, html)


def _part(environment: ImmutableSandboxedEnvironment, name: str, values: Mapping[str, Any]) -> str | None:
    try:
        template = environment.get_template(name)
    except TemplateNotFound as exc:
        if exc.name == name:
            return None
        raise
    return template.render(values)


@lru_cache(maxsize=256)
def _environment(folder: Path, tenant_id: str) -> ImmutableSandboxedEnvironment:
    """The tenant's own files first. Undefined names are errors: nobody should be greeted as an empty space."""
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader([folder / _TENANTS / tenant_id, folder]),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
