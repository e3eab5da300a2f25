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

from cgk_tasks.errors import PermanentError, TransientError

Kind = Literal["info", "warning", "failure"]

_STATUS = re.compile(r"error=(\d{3})\b")
_PASSING: Final = {408, 425, 429}

_apprise_log = logging.getLogger("apprise")
# Of the call that is going on. apprise sends in threads of its own, and hands the context on to them.
_statuses: ContextVar[list[int] | None] = ContextVar("cgk_apprise_statuses", default=None)


def fill_in(url: str, **values: str) -> str:
    """The URL with values in its places: `{to}`, `{channel}`, `{user_id}`. A value can name nothing but itself."""
    for name, value in values.items():
        url = url.replace(f"{{{name}}}", quote(value, safe=""))
    return url


def notify(url: str, body: str, *, title: str = "", kind: Kind = "info") -> None:
    """Send a text to the one service that the URL names.

    Raises PermanentError (NOT_CONFIGURED) for a URL that apprise cannot read, PermanentError (INVALID_INPUT) for what
    the service refuses for good, TransientError for anything else.
    """
    import apprise  # half a second: only where a message is sent

    service = apprise.Apprise()
    service_name = url.partition(":")[0]
    if not service.add(url):
        raise PermanentError(
            f"apprise cannot read the {service_name}:// URL.",
            "NOT_CONFIGURED",
            hint="Compare it with https://github.com/caronc/apprise/wiki.",
        )
    found: list[int] = []
    token = _statuses.set(found)
    try:
        sent = service.notify(
            body=body, title=title, notify_type=apprise.NotifyType(kind), body_format=apprise.NotifyFormat.TEXT
        )
    finally:
        _statuses.reset(token)
    if sent:
        return
    status = next(iter(found), None)
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        raise PermanentError(f"{service_name}:// refuses the message for good (HTTP {status}).", "INVALID_INPUT")
    answer = f"HTTP {status}" if status else "no answer"
    raise TransientError(f"{service_name}:// did not take the message ({answer}).", "SERVICE_UNAVAILABLE")


class _ReadStatuses(logging.Handler):
    """Finds the HTTP statuses in what apprise logs: it tells them nowhere else."""

    def emit(self, record: logging.LogRecord) -> None:
        found = _statuses.get()
        if found is not None:
            found += [int(status) for status in _STATUS.findall(record.getMessage())]


_apprise_log.addHandler(_ReadStatuses(logging.WARNING))
_apprise_log.propagate = False  # its lines name recipients
