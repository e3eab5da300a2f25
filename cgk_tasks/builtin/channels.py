"""Sending a text through apprise: over a hundred services, each named by a URL.

https://github.com/caronc/apprise/wiki has the URLs' forms. They hold credentials, so nothing here quotes them, and what
apprise logs about recipients does not reach our logs.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import Final, Literal
from urllib.parse import quote

from cgk_tasks.builtin.library_errors import LIBRARY_ERRORS
from cgk_tasks.errors import PermanentError, TransientError

Kind = Literal["info", "warning", "failure"]

_STATUS = re.compile(r"error=(\d{3})\b")
_SCHEME: Final = re.compile(r"([a-z][a-z0-9.+-]{0,19})://", re.IGNORECASE)
_PASSING: Final = {408, 425, 429}

_apprise_log = logging.getLogger("apprise")
# Of the call that is going on. apprise sends in threads of its own, and hands the context on to them.
_statuses: ContextVar[list[int] | None] = ContextVar("cgk_apprise_statuses", default=None)


def fill_in(url: str, **values: str) -> str:
    """The URL with values in its places: `{to}`, `{channel}`, `{user_id}`. A value can name nothing but itself.

    Raises PermanentError for a value that names nothing, or another folder.
    """
    for name, value in values.items():
        place = f"{{{name}}}"
        if place in url and not value.strip("."):
            raise PermanentError(f"The recipient ({name}) is empty or only dots.", "INVALID_INPUT")
        url = url.replace(place, quote(value, safe="", errors="replace"))
    return url


def notify(url: str, body: str, *, title: str = "", kind: Kind = "info") -> None:
    """Send a text to the one service that the URL names.

    Raises PermanentError (NOT_CONFIGURED) for a URL that apprise cannot read, PermanentError (INVALID_INPUT) for what
    the service refuses for good, TransientError for anything else.
    """
    import apprise  # half a second: only where a message is sent

    service_name = _service_name(url)
    service = apprise.Apprise()
    found: list[int] = []
    token = _statuses.set(found)
    try:
        is_known = service.add(url)
        sent = is_known and service.notify(
            body=body, title=title, notify_type=apprise.NotifyType(kind), body_format=apprise.NotifyFormat.TEXT
        )
    except LIBRARY_ERRORS as exc:  # their texts may quote the URL
        raise PermanentError(
            f"apprise cannot use {service_name}, or send this message to it ({type(exc).__name__}).", "INVALID_INPUT"
        ) from None
    except OSError as exc:
        raise TransientError(f"{service_name} cannot be reached ({type(exc).__name__}).", "NETWORK_ERROR") from None
    finally:
        _statuses.reset(token)
    if not is_known:
        raise PermanentError(
            f"apprise cannot read {service_name}. Compare it with https://github.com/caronc/apprise/wiki.",
            "NOT_CONFIGURED",
        )
    if sent:
        return
    status = next(iter(found), None)
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        raise PermanentError(f"{service_name} refuses the message for good (HTTP {status}).", "INVALID_INPUT")
    answer = f"HTTP {status}" if status else "no answer"
    raise TransientError(f"{service_name} did not take the message ({answer}).", "SERVICE_UNAVAILABLE")


def _service_name(url: str) -> str:
    """What a text may tell of a URL: its scheme, and nothing of one that has none."""
    scheme = _SCHEME.match(url)
    return f"the {scheme[1]}:// URL" if scheme else "the URL, which must begin like slack://"


class _ReadStatuses(logging.Handler):
    """Finds the HTTP statuses in what apprise logs: it tells them nowhere else."""

    def emit(self, record: logging.LogRecord) -> None:
        found = _statuses.get()
        if found is not None:
            found += [int(status) for status in _STATUS.findall(record.getMessage())]


_apprise_log.addHandler(_ReadStatuses(logging.WARNING))
_apprise_log.propagate = False  # its lines name recipients
