"""How values look on the pages: times, numbers, links."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from tornado.escape import xhtml_escape
from tornado.web import RequestHandler

from cgk_tasks.config import get_settings

PAGES: Final = (
    ("/overview", "Overview"),
    ("/runs", "Runs"),
    ("/events", "Events"),
    ("/jobs", "Jobs"),
    ("/tenants", "Tenants"),
    ("/queues", "Queues"),
    ("/workers", "Workers"),
    ("/dead-letters", "Dead letters"),
    ("/schedules", "Schedules"),
    ("/audit", "Audit"),
    ("/flower/", "Flower"),
)
"""The links on top of every page; the last one leaves them."""

_SHORT: Final = 200

Form = Literal["milliseconds", "seconds", "minutes", "clock"]
_FORMS: Final[Mapping[Form, str]] = {
    "milliseconds": "Y-M-D h:m:s.f", "seconds": "Y-M-D h:m:s", "minutes": "Y-M-D h:m", "clock": "h:m",
}  # fmt: skip
"""As dashboard.js reads them: a letter for each part of a time."""
_PARTS: Final = {"Y": "%Y", "M": "%m", "D": "%d", "h": "%H", "m": "%M", "s": "%S"}
_TIME_IN_TEXT: Final = re.compile(r"\b([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC\b")


def namespace(handler: RequestHandler) -> dict[str, Any]:
    """What the templates have at hand."""
    prefix = handler.settings["prefix"]

    def url(path: str, **query: object) -> str:
        given = {name: value for name, value in query.items() if value not in {None, ""}}
        return f"{prefix}{path}{'?' + urlencode(given) if given else ''}"

    settings = get_settings()
    return {
        "environment": settings.environment.strip(), "is_production": settings.is_production, "segment": segment,
        "url": url, "pages": PAGES, "current_path": handler.request.path.removeprefix(prefix),
        "utc": utc, "utc_ms": utc_ms, "duration": duration, "took": took, "ago": ago, "as_json": as_json,
        "short": short, "number": "{:,}".format, "iso": iso, "when": when, "timed": timed,
    }  # fmt: skip


def segment(name: str) -> str:
    """A name as a part of an address."""
    return quote(name, safe="")


def utc(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""


def iso(at: datetime) -> str:
    """A time in UTC as addresses have it, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def utc_ms(at: datetime) -> str:
    """A time in UTC, to the millisecond."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def when(at: datetime | None, form: Form = "seconds", *, zone: bool = False) -> str:
    """A time as an element of HTML, of which dashboard.js makes one of the reader's zone. It is UTC without scripts.

    zone: say which zone it is, where no heading does.
    """
    if at is None:
        return ""
    at, pattern = at.astimezone(UTC), _FORMS[form]
    named, text = (" data-zone", f"{in_form(at, pattern)} UTC") if zone else ("", in_form(at, pattern))
    return f'<time datetime="{exact(at)}" data-form="{pattern}"{named}>{text}</time>'


def in_form(at: datetime, pattern: str) -> str:
    """A time of UTC in such a form."""
    parts = {letter: f"{at:{part}}" for letter, part in _PARTS.items()} | {"f": f"{at.microsecond // 1000:03d}"}
    return "".join(parts.get(letter, letter) for letter in pattern)


def exact(at: datetime) -> str:
    """A time of UTC as browsers read it, to the millisecond."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def timed(text: str) -> str:
    """A text of ours as HTML. The times of UTC in it are such elements."""
    return _TIME_IN_TEXT.sub(_as_element, xhtml_escape(text))


def _as_element(found: re.Match[str]) -> str:
    try:
        at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:  # of an application's text, 2026-02-31
        return found[0]
    return when(at, zone=True)


def duration(seconds: float | None) -> str:
    """A length of time, roughly: 12 s, 5 min, 3 h, 2 d."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1f} s"


def took(seconds: float | None) -> str:
    """A length of time, of short ones to the millisecond: 12 ms, 2.31 s, 5 min."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def ago(at: datetime | None) -> str:
    """How long ago, or in how long."""
    if at is None:
        return ""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def as_json(data: Any) -> str:
    """JSON for people to read; times as ISO 8601."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)


def short(data: Any) -> str:
    """The beginning of JSON in one line."""
    text = json.dumps(data, ensure_ascii=False, default=str)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def fields(values: Mapping[str, Any]) -> str:
    """A few values in one line: `orderId=o-1 customerId=c-7`."""
    return " ".join(f"{name}={value}" for name, value in values.items())
