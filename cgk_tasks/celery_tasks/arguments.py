"""The arguments of an application's own `@app.task` functions as the payload of a run, and back; and their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Signature

from cgk_tasks.events.registry import find_event
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql.postgres import Row


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as JSON text, which keeps their types as Celery's does. A signature among them is kept whole,
    generators inside it included.
    """
    return encode(
        {
            "args": [as_json(value) for value in args],
            "kwargs": {name: as_json(value) for name, value in kwargs.items()},
        },
        "Send",
        keep_types=True,
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
    stored = typed_json.read(run.payload)
    return stored["args"], stored["kwargs"]


def result_of(row: Row) -> Any:
    """The result of a run: with its types that of a function, as its job's JSON that of an event."""
    return decode(row["result"]) if find_event(row["event"]) is not None else typed_json.read(row["result"])


def extended(row: Row) -> dict[str, Any]:
    """What `result_extended` adds to a task's meta."""
    known: dict[str, Any] = {
        "worker": row["worker_id"],
        "retries": max(0, row["attempt"] - row["deaths"] - 1),
        "queue": row["queue"],
    }
    payload = typed_json.read(row["payload"])
    if find_event(row["event"]) is None:
        known |= {"args": payload["args"], "kwargs": payload["kwargs"]}
    else:
        known |= {"args": [], "kwargs": payload}
    canvas = typed_json.read(row["canvas"]) if row["canvas"] else {}
    known |= {name: canvas[name] for name in ("group_id", "parent_id", "stamped_headers") if canvas.get(name)}
    return known | (canvas.get("stamps") or {})
