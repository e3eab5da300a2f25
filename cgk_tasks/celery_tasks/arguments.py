"""The arguments of an application's own `@app.task` functions as the payload of a run, and back; and their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any

from celery import Signature
from celery.result import ResultBase
from kombu.utils.json import register_type

from cgk_tasks.errors import ResultTooLargeError
from cgk_tasks.events.registry import find_event
from cgk_tasks.events.typed_values import is_left_out
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql.postgres import Row

# What a task returns may be a result of another one, and what follows gets it as an argument: as Celery's own tuple.
_as_tuple: Callable[[Any], Any] = methodcaller("as_tuple")
register_type(ResultBase, None, _as_tuple)


class Arguments(tuple[list[Any], dict[str, Any]]):  # noqa: SLOT001 - a tuple can have none
    """The positional and keyword arguments of a run. ignore_result: what its sender said, None for nothing.
    is_redelivered: whether the task has rejected the run before.
    """

    ignore_result: bool | None = None
    is_redelivered: bool = False


def payload_of(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    ignore_result: bool | None = None,
    is_redelivered: bool = False,
) -> str:
    """The arguments as JSON text, which keeps their types as Celery's does. A signature among them is kept whole,
    generators inside it included.

    ignore_result: of a send that says another thing than its task.
    """
    payload: dict[str, Any] = {
        "args": [as_json(value) for value in args],
        "kwargs": {name: as_json(value) for name, value in kwargs.items()},
    }
    if ignore_result is not None:
        payload["ignore_result"] = ignore_result
    if is_redelivered:
        payload["is_redelivered"] = True
    return encode(payload, "Send", keep_types=True)


def said_otherwise(task: Any, said: bool | None) -> bool | None:
    """What a sender says of `ignore_result`; None where the task says the same, as it does in the worker."""
    return None if said is None or (task is not None and said == task.ignore_result) else bool(said)


def as_json(value: Any) -> Any:
    """A signature as plain dictionaries and lists; anything else as it is."""
    return _unrolled(value) if isinstance(value, Signature) else value


def _unrolled(value: Any) -> Any:
    # Celery keeps the members of a group in a lazy list, which looks empty to a fast JSON encoder.
    if isinstance(value, dict):
        return {key: _unrolled(item) for key, item in value.items()}
    return [_unrolled(item) for item in value] if isinstance(value, list | tuple) else value


def arguments_of(run: Claimed) -> Arguments:
    """The positional and keyword arguments of a function's run."""
    stored = typed_json.read(run.payload)
    arguments = Arguments((stored["args"], stored["kwargs"]))
    arguments.ignore_result = stored.get("ignore_result")
    arguments.is_redelivered = stored.get("is_redelivered", False)
    return arguments


def result_of(row: Row) -> Any:
    """The result of a run: with its types that of a function, as its job's JSON that of an event. Of one that was too
    large to be kept, the error that says so.
    """
    if find_event(row["event"]) is None:
        return typed_json.read(row["result"])
    result = decode(row["result"])
    return ResultTooLargeError(result["__value__"]) if is_left_out(result) else result


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
