"""What the database knows of a run's content in the open, in columns of their own: what is searched and grouped.

The content itself is sealed (`runs.sealing`). What may be in the open is said by the event: the fields that it marks
as `Searchable`, none of which can be personal data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic_core import from_json

from cgk_tasks.events.base import TenantEvent, searchable_fields
from cgk_tasks.events.registry import all_events, find_event

_LONGEST: Final = 200
"""Characters of a field that can be searched."""

_TRACE: Final = ":traceparent="
"""Begins the line of the trace: no name of a field begins with a colon, so no search of fields finds it."""

_VARIABLE: Final = re.compile(r"""'[^']*'|"[^"]*"|[\w.:@-]*\d[\w.:@-]*""")
"""Names in quotes and words with digits in them: what differs between errors that are the same."""


def searchable_events() -> list[str]:
    """The events that mark a field as searchable, of those that this process knows."""
    return [model.event_name for model in all_events() if searchable_fields(model)]


def search_fields(event: str, payload: str) -> str | None:
    """The searchable fields of a payload, a line `name=value` each. None for an event that marks none."""
    model = find_event(event)
    names = () if model is None else searchable_fields(model, by_alias=True)
    if not names:
        return None
    try:
        fields = from_json(payload)
    except ValueError:
        return ""
    if not isinstance(fields, dict):
        return ""
    return "\n".join(f"{name}={_line(fields[name])}" for name in names if fields.get(name) is not None)


def search_fields_of(event: TenantEvent) -> str | None:
    """The same of an event at hand, without reading its JSON. None where that must be done."""
    fields = event.__dict__
    lines = []
    for begin, name in _plan(type(event)):
        value = fields[name]
        if value is None:
            continue
        if type(value) is not str or not value.isprintable() or len(value) > _LONGEST:
            return None
        lines.append(begin + value)
    return "\n".join(lines)


@cache
def _plan(model: type[TenantEvent]) -> tuple[tuple[str, str], ...]:
    """The searchable fields: how the line of each begins, and its name in Python."""
    names = zip(searchable_fields(model, by_alias=True), searchable_fields(model), strict=True)
    return tuple((f"{alias}=", name) for alias, name in names)


def with_trace(fields: str | None, trace: str) -> str:
    """The lines of a run's searchable fields, and one with the trace context of its sender. The history has no column
    for that: so it costs those runs something that are traced, and nothing the statement that closes all of them.
    """
    return f"{fields}\n{_TRACE}{trace}" if fields else f"{_TRACE}{trace}"


def trace_in(fields: str | None) -> str | None:
    """The trace context in the lines of `with_trace`, if there is one."""
    *_, last = (fields or "").rsplit("\n", 1)
    return last.removeprefix(_TRACE) if last.startswith(_TRACE) else None


def _line(value: Any) -> str:
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(text[:_LONGEST].replace("\0", " ").splitlines())


def error_fingerprint(error_code: str | None, error: Mapping[str, Any] | None) -> str:
    """The same for errors whose code, type and message are, but for names in quotes and words with digits in them.

    error: the entry of the last error. The function `cgk.error_fingerprint_of` of migration 0013 says the same of what
    an older release writes during an upgrade.
    """
    known = error or {}
    message = _VARIABLE.sub("#", str(known.get("message") or "")[:300])
    text = f"{error_code or ''}|{known.get('type') or ''}|{message}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
