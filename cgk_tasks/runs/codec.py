"""The one way from a payload or result to its text and back: plain JSON. `sealing` makes of the text what is stored."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from cgk_tasks.errors import PermanentError, ResultTooLargeError
from cgk_tasks.events.typed_values import LEFT_OUT, is_left_out
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.text import text_of

log = get_logger("cgk_tasks.runs")

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
        text = to_json(_with_types(value) if keep_types else value, inf_nan_mode="strings").decode()
        if len(text) >= 4300 and _DIGITS.search(text):
            json.loads(text)
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        raise PermanentError(
            f"A {text_of(type(value).__name__)} cannot be stored as JSON: {text_of(exc)}.",
            hint=f"{what} a dict, list, string, number or model.",
            code="INVALID_RESULT",
        ) from exc
    return text


def _with_types(value: Any) -> Any:
    from cgk_tasks.runs import typed_json  # it needs kombu, which a sender may do without

    return typed_json.with_types(value)


def encode_result(value: Any, limit: int, *, keep_types: bool = False) -> tuple[Any, str]:
    """A job's value, and its JSON text. A generator is run here, and its items are the value.

    A result of more bytes than `limit` is left out, and the text says so: the job has done its work, and it would do no
    good to do it again. Raises PermanentError (INVALID_RESULT) for what JSON cannot say.
    """
    if isinstance(value, Iterator):
        most = max(1, limit // 2)  # each takes two bytes at least
        value, left_out = list(islice(value, most)), sum(1 for _ in value)
        if left_out:
            note = f"The job returned a generator of {most + left_out} items, which is more than {limit} bytes."
            return ResultTooLargeError(note), _left_out(note)
    text = encode(value, keep_types=keep_types)
    size = len(text)
    if size > limit // 4 and not text.isascii():
        size = len(text.encode())
    if size > limit:
        return value, _left_out(f"The result was not kept: it has {size} bytes, more than {limit}.")
    return value, text


def run_without_result(value: Any) -> Any:
    """A job's value, where nobody wants its result. A generator is run all the same: that is the job's work."""
    if not isinstance(value, Iterator):
        return value
    deque(value, maxlen=0)
    return None


def _left_out(note: str) -> str:
    log.warning("result_left_out", reason=note)
    return json.dumps({"__type__": LEFT_OUT, "__value__": note})


_LEFT_OUT_BEGINS = json.dumps({"__type__": LEFT_OUT})[:-1]


def result_for_others(text: str | None) -> str:
    """JSON text of a run's result, for the record of another run: in place of one that was left out its note, as who
    asks for the run is given it.
    """
    if text is None or not text.startswith(_LEFT_OUT_BEGINS):
        return text or "null"
    data = json.loads(text)
    return json.dumps(data["__value__"]) if is_left_out(data) else text


def decode(text: str | None) -> Any:
    return None if text is None else json.loads(text)
