"""The one way from a payload or result to its text and back: plain JSON. `sealing` makes of the text what is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

from cgk_tasks.errors import PermanentError
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.text import text_of

MAX_RESULT_BYTES: Final = 256 * 1024
_MOST_ITEMS: Final = MAX_RESULT_BYTES // 2
"""Of a generator: each takes two bytes at least."""

_DIGITS = re.compile(r"\d{4300}")
"""Python reads no longer integers back (`sys.set_int_max_str_digits`)."""


def encode(value: Any, what: str = "Return", *, keep_types: bool = False) -> str:
    """JSON text of a value; models, dataclasses, dates, decimals and UUIDs are written as JSON.

    what: how the advice to whoever made the value begins. keep_types: write them as Celery's JSON does; read it with
    `typed_json`. Raises PermanentError (INVALID_RESULT) for what JSON cannot say.
    """
    if value is None:
        return "null"
    try:
        text = to_json(typed_json.with_types(value) if keep_types else value, inf_nan_mode="strings").decode()
        if len(text) >= 4300 and _DIGITS.search(text):
            json.loads(text)
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        raise PermanentError(
            f"A {text_of(type(value).__name__)} cannot be stored as JSON: {text_of(exc)}.",
            hint=f"{what} a dict, list, string, number or model.",
            code="INVALID_RESULT",
        ) from exc
    return text


def encode_result(value: Any, *, keep_types: bool = False) -> tuple[Any, str]:
    """A job's value, and its JSON text. A generator is run here, and its items are the value.

    Raises PermanentError (INVALID_RESULT) for what JSON cannot say, and for more than 256 KB.
    """
    if isinstance(value, Iterator):
        value = _items(value)
    text = encode(value, keep_types=keep_types)
    size = len(text)
    if size > MAX_RESULT_BYTES // 4 and not text.isascii():
        size = len(text.encode())
    if size > MAX_RESULT_BYTES:
        raise PermanentError(
            f"The result has {size} bytes, more than {MAX_RESULT_BYTES}. Store it and return a reference.",
            code="INVALID_RESULT",
        )
    return value, text


def _items(values: Iterator[Any]) -> list[Any]:
    """What a generator gives. It is run to its end in any case: that is the job's work, within the job's time limit."""
    items = list(islice(values, _MOST_ITEMS))
    left_out = sum(1 for _ in values)
    if left_out:
        raise PermanentError(
            f"The job returned a generator of {_MOST_ITEMS + left_out} items, more than {_MOST_ITEMS}.",
            hint="Store them and return a reference.",
            code="INVALID_RESULT",
        )
    return items


def decode(text: str | None) -> Any:
    return None if text is None else json.loads(text)
