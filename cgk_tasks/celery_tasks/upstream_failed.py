"""Runs that will never be made, because what comes before them failed: on record as failed from the start.

So nobody waits for ever for the end of a chain, and a replay can run what was left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from celery.canvas import Signature

from cgk_tasks.celery_tasks.arguments import as_json, payload_of
from cgk_tasks.celery_tasks.groups import joined
from cgk_tasks.celery_tasks.priorities import priority_of
from cgk_tasks.config import get_settings
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events.registry import find_event
from cgk_tasks.runs import store
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.models import DEFAULT_PRIORITY, NewRun, new_run_id, run_id_of
from cgk_tasks.sql.clock import known_now

NOT_SENT = "NOT_SENT"
"""Error code: the run could not be sent after the one before it had completed."""

PREDECESSOR_FAILED = "PREDECESSOR_FAILED"
"""Error code: an earlier link of the chain, or a member of the chord, did not complete."""

_MAX_MESSAGE = 2_000


def record_upstream_failed(
    signature: Signature[Any], tenant_id: str, error: BaseException, code: str, called: Iterable[Any] = ()
) -> str:
    """Record a signature's run as failed, unless its id has a run already. Returns the run's id.

    called: the error links that are called for this failure.
    """
    task_id = signature.options.get("task_id")
    queue = signature.options.get("queue")
    is_plain = find_event(str(signature.task)) is None
    run = NewRun(
        id=run_id_of(task_id) if task_id else new_run_id(),
        tenant_id=tenant_id,
        event=str(signature.task),
        queue=getattr(queue, "name", queue) or get_settings().default_queue,
        priority=_priority(signature.options.get("priority")),
        payload=payload_of(signature.args, signature.kwargs) if is_plain else encode(dict(signature.kwargs)),
    )
    with joined() as connection:
        entry = _entry(error, code)
        if links := sorted({_digest(link) for link in called}):
            entry["called"] = links
        store.insert_failed(connection, run, code, json.dumps(entry).replace("\\u0000", ""))
    return run.id


def not_called_for(failed: Mapping[str, Any] | None, links: Iterable[Any]) -> list[Any]:
    """Those of the error links that were not called when the run of this record failed."""
    errors = failed["errors"] if failed else None
    called = (errors[-1].get("called") if errors else None) or ()
    return [link for link in links if not called or _digest(link) not in called]


def _digest(link: Any) -> str:
    return hashlib.sha256(encode(as_json(link), keep_types=True).encode()).hexdigest()[:32]


def _priority(value: Any) -> int:
    try:
        return DEFAULT_PRIORITY if value is None else priority_of(value)
    except InvalidOptionError:
        return DEFAULT_PRIORITY  # that may be why it was not sent


def _entry(error: BaseException, code: str) -> dict[str, Any]:
    message = str(error)[:_MAX_MESSAGE]
    return {
        "attempt": 0,
        "kind": "permanent",
        "code": code,
        "type": type(error).__qualname__,
        "module": type(error).__module__,
        "message": message,
        "args": _json_args(error, message),
        "at": known_now().isoformat(),
    }


def _json_args(error: BaseException, message: str) -> list[Any]:
    try:
        args: list[Any] = json.loads(json.dumps(list(error.args)))
    except (TypeError, ValueError, RecursionError):
        return [message]
    return args if len(str(args)) <= _MAX_MESSAGE else [message]
