"""Texts as the record can hold them, whatever a job said.

PostgreSQL takes neither the character NUL nor half of a surrogate pair, and an exception's own text may itself raise.
So every text of a job goes through here before it is stored.
"""

from __future__ import annotations

import json
import math
import re
import traceback
from collections.abc import Mapping
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"

_REFUSED: Final = re.compile("[\0\ud800-\udfff]")
_DEEPEST: Final = 20
"""Data that lies deeper is stored as text: it may refer to itself."""


def storable(text: str) -> str:
    """The text, with U+FFFD in place of each character that PostgreSQL refuses."""
    if text.isascii() and "\0" not in text:
        return text
    # A pair of surrogates that stand for one character (as JSON and UTF-16 write it) is that character.
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _REFUSED.search(text) else text
    return _REFUSED.sub(REPLACEMENT, joined)


def storable_json(value: Any) -> str:
    """JSON text of any value. What JSON cannot say is written as its text; never raises."""
    return json.dumps(_data(value, 0))


def _data(value: Any, depth: int) -> Any:
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return value if value.bit_length() < 1024 else text_of(value)
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {text_of(name): _data(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return [_data(item, depth + 1) for item in value]
    return text_of(value)


def text_of(value: object) -> str:
    """`str(value)` as the record can hold it. Where that raises, a text that says so; never raises."""
    try:
        return storable(str(value))
    except BaseException as exc:  # noqa: BLE001 - whatever an application's __str__ raises
        return f"<{storable(type(value).__name__)} whose text cannot be made: {storable(type(exc).__name__)}>"


def traceback_of(exc: BaseException) -> str:
    """The traceback with its causes, as Python prints it; never raises."""
    try:
        return storable("".join(traceback.format_exception(exc)))
    except BaseException:  # noqa: BLE001 - of an exception with fields that raise
        return storable("".join(traceback.format_tb(exc.__traceback__))) + text_of(exc)


def where_of(exc: BaseException) -> list[str]:
    """Files and lines of an exception, the innermost last. They say nothing of any value."""
    found = []
    trace = exc.__traceback__
    while trace is not None:
        found.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found[-8:]
