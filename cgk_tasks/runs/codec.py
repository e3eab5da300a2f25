"""The one way from a payload or result to its stored text and back: plain JSON.

Everything that is stored goes through here, so that encryption with a key per tenant needs no other change.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from cgk_tasks.errors import PermanentError


def encode(value: Any) -> str:
    """JSON text of a value; models, dataclasses, dates, decimals and UUIDs are written as JSON.

    Raises PermanentError (INVALID_RESULT) for what JSON cannot say.
    """
    if value is None:
        return "null"
    try:
        text = to_json(value, inf_nan_mode="strings").decode()
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        raise PermanentError(
            f"A {type(value).__name__} cannot be stored as JSON: {exc}.",
            hint="Return a dict, list, string, number or model.",
            code="INVALID_RESULT",
        ) from exc
    return text


def decode(text: str | None) -> Any:
    return None if text is None else json.loads(text)
