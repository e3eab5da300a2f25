"""JSON of requests and answers. What two readers could understand differently is refused.

That is: a name that comes twice in an object, NaN and Infinity, numbers beyond what a float holds, half of a surrogate
pair, and what is nested deeper than 64 levels.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from pydantic_core import from_json, to_json

from cgk_tasks.errors import RequestRefusedError

DEEPEST: Final = 64


def to_text(value: Any) -> bytes:
    """JSON; times as ISO 8601."""
    return to_json(value, inf_nan_mode="null")


def parsed(data: bytes) -> Any:
    """The value. Raises RequestRefusedError, 400."""
    try:
        from_json(data, allow_inf_nan=False, cache_strings=False)  # which refuses what is not Unicode or too deep
        value = json.loads(data.decode(), object_pairs_hook=_object, parse_float=_finite)
    except (ValueError, RecursionError) as exc:
        raise RequestRefusedError(f"The body is not JSON as it must be: {_said(exc)}.", "INVALID_JSON", 400) from None
    if _is_deeper(value, DEEPEST):
        raise RequestRefusedError(f"The body is nested deeper than {DEEPEST} levels.", "INVALID_JSON", 400)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name comes twice in an object")
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _said(exc: Exception) -> str:
    """What is wrong, and where. It quotes nothing of the body."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at line {exc.lineno} column {exc.colno}"
    if isinstance(exc, UnicodeDecodeError):
        return "it is not UTF-8"
    return "it is nested too deep" if isinstance(exc, RecursionError) else str(exc)[:200]


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True
