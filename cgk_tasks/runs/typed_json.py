"""JSON that keeps the types of a adapted Celery task's arguments and result, as Celery's own JSON does.

A value of a type that kombu knows (datetime, date, time, Decimal, UUID, bytes, and what an application has registered)
is written as `{"__type__": "datetime", "__value__": "2026-03-01T09:30:00"}`. So are NaN and the infinities, which kombu
writes as words that PostgreSQL does not take as JSON.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from kombu.utils import json as kombu_json

from cgk_tasks.errors import ResultTooLargeError
from cgk_tasks.events.typed_values import LEFT_OUT, WRAPPER

_FLOAT: Final = "float"
_AS_JSON_HAS_IT: Final = (str, int, type(None))

_kombu = kombu_json.JSONEncoder()


def with_types(value: Any) -> Any:
    """The value with wrappers in place of what JSON has no type for. What kombu does not know either stays as it is."""
    if isinstance(value, _AS_JSON_HAS_IT):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"__type__": _FLOAT, "__value__": str(float(value))}
    if isinstance(value, dict):
        return {"null" if name is None else name: with_types(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_types(item) for item in value]
    try:
        written = _kombu.default(value)
    except Exception:  # noqa: BLE001 - of no type that kombu knows, or with a `__json__` that raises
        return value
    return with_types(written)


def read(text: str | None) -> Any:
    """What was written with types. A text from before, without any, is read as what it says."""
    return None if text is None else json.loads(text, object_hook=_typed)


def _typed(data: dict[str, Any]) -> Any:
    if data.keys() != WRAPPER:
        return data
    try:
        if data["__type__"] == LEFT_OUT:
            return ResultTooLargeError(data["__value__"])
        return float(data["__value__"]) if data["__type__"] == _FLOAT else kombu_json.object_hook(data)
    except Exception:  # noqa: BLE001 - it only looks like a wrapper, or its type is registered elsewhere: it stays as it is
        return data
