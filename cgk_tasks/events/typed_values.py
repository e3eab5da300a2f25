"""What a plain Celery task was given, and what it returned, as people and other programs are shown it.

Such a run's record says the types that JSON has not in wrappers, as Celery does:
`{"__type__": "datetime", "__value__": "2026-03-01T09:30:00"}`. They are written and read in `runs.typed_json`.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from cgk_tasks.events.registry import find_event

WRAPPER: Final = {"__type__", "__value__"}
LEFT_OUT: Final = "result_left_out"
"""The type of the note in place of a result that was too large to be kept; its value is the note's text."""


def shown(event: str, data: Any) -> Any:
    """A run's stored payload or result: an event's as its model wrote it, of an adapted task's run each wrapper's
    value.
    """
    if find_event(event) is None:
        return unwrapped(data)
    return data["__value__"] if is_left_out(data) else data


def is_left_out(data: Any) -> bool:
    """Whether it is the note in place of a result that was too large."""
    return isinstance(data, dict) and data.keys() == WRAPPER and data["__type__"] == LEFT_OUT


def unwrapped(data: Any) -> Any:
    """Plain JSON data: each wrapper's value as a text or number."""
    if isinstance(data, dict):
        if data.keys() == WRAPPER and isinstance(data["__type__"], str):
            return _value(data["__type__"], data["__value__"])
        return {name: unwrapped(item) for name, item in data.items()}
    return [unwrapped(item) for item in data] if isinstance(data, list) else data


def _value(kind: str, value: Any) -> Any:
    if kind == "uuid":
        try:
            return str(UUID(**value))
        except (TypeError, ValueError):
            return value
    return unwrapped(value)
