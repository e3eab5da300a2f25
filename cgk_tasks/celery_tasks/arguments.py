"""The arguments of an application's own `@app.task` functions as the payload of a run, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Signature

from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.store import Claimed


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as JSON text. A signature among them is kept whole, generators inside it included."""
    return encode(
        {
            "args": [as_json(value) for value in args],
            "kwargs": {name: as_json(value) for name, value in kwargs.items()},
        },
        "Send",
    )


def as_json(value: Any) -> Any:
    """A signature as plain dictionaries and lists; anything else as it is."""
    return _unrolled(value) if isinstance(value, Signature) else value


def _unrolled(value: Any) -> Any:
    # Celery keeps the members of a group in a lazy list, which looks empty to a fast JSON encoder.
    if isinstance(value, dict):
        return {key: _unrolled(item) for key, item in value.items()}
    return [_unrolled(item) for item in value] if isinstance(value, list | tuple) else value


def arguments_of(run: Claimed) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments of a function's run."""
    stored = decode(run.payload)
    return stored["args"], stored["kwargs"]
