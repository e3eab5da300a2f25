"""Results of steps as they are kept: JSON, and back as what the function says that it returns.

The first call gives what a later leg would read, and not the object that the function made: a workflow behaves alike
whether a step was done just now or weeks ago.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ChildCancelledError, ChildFailedError, PermanentError, StepFailedError
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.steps import Memo

INVALID = "INVALID_RESULT"


def encoded(value: Any, step: str) -> str:
    """JSON text of a step's result. Raises PermanentError for what JSON cannot say, and for more than may be kept."""
    text = encode(value, f"Let step {step!r} return")
    most = get_settings().max_result_bytes
    if 4 * len(text) > most and (size := len(text.encode())) > most:
        raise PermanentError(
            f"Step {step!r} returned {size} bytes, and at most {most} are kept.",
            "RESULT_TOO_LARGE",
            hint="Store it, and return a reference to it.",
        )
    return text


def decoded(text: str, kind: Any, step: str) -> Any:
    """The result as its type. kind: as `result_type` found it. Raises PermanentError where it is none of the kind."""
    adapter = None if kind is Any else _adapter(kind)
    if adapter is None:
        return json.loads(text)
    try:
        return adapter.validate_json(text)
    except ValidationError as exc:
        raise PermanentError(
            f"The result of step {step!r} is no {kind}: {exc.error_count()} errors, the first at "
            f"{'.'.join(map(str, exc.errors()[0]['loc'])) or 'its top'}.",
            INVALID,
            hint="Is the annotation of what its function returns right? If it was changed, give the step a new name.",
        ) from None


def error_of(memo: Memo) -> StepFailedError:
    """Why a step has failed that is on record as failed."""
    error = json.loads(memo.error or "{}")
    if "run" in error:
        return child_error(memo.name, error)
    return StepFailedError(memo.name, error.get("code", "UNKNOWN_ERROR"), error.get("message", ""))


def child_error(step: str, end: Mapping[str, Any]) -> ChildFailedError:
    """Of a child run that did not complete."""
    if end["state"] == "cancelled":
        return ChildCancelledError(step, end["run"])
    return ChildFailedError(step, end["run"], end.get("code") or end["state"].upper(), end.get("message", ""))


def ends_of(step: str, ends: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The results of child runs; an error in place of each that there is not."""
    return [end["result"] if end["state"] == "completed" else child_error(step, end) for end in ends]


def result_type(function: Callable[..., Any]) -> Any:
    """What a function is annotated to return; Any where it does not say, or says None."""
    kind = getattr(function, "__annotations__", {}).get("return", Any)
    if isinstance(kind, str):
        code = getattr(function, "__code__", None)  # of all functions that are made at this place
        if code is None or code not in _evaluated:
            _evaluated[code] = _evaluate(function)
        kind = _evaluated[code]
    return Any if kind is None or kind is type(None) else kind


_evaluated: dict[CodeType | None, Any] = {}
"""What functions return by annotations that are texts. Each leg asks for all of them."""


def _evaluate(function: Callable[..., Any]) -> Any:
    try:
        return get_type_hints(function).get("return", Any)
    except Exception:  # noqa: BLE001 - a name that is known to type checkers alone
        return Any


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    """None for a type that pydantic cannot read: then the JSON is the result."""
    try:
        return _known_adapter(kind)
    except TypeError:  # it cannot be hashed
        return _new_adapter(kind)


def _new_adapter(kind: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(kind)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return None


_known_adapter = lru_cache(maxsize=512)(_new_adapter)
