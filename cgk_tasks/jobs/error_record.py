"""What the record keeps of an exception."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from cgk_tasks.errors import CgkTasksError, wait_seconds
from cgk_tasks.jobs.classification import UNKNOWN_CODE, Classification, classify_error
from cgk_tasks.runs import tracing
from cgk_tasks.runs.text import storable_json, text_of, traceback_of
from cgk_tasks.sql.clock import known_now

MAX_NAME: Final = 500
_MAX_MESSAGE: Final = 2_000
_MAX_TRACEBACK: Final = 16_000


def classified(exc: BaseException) -> Classification:
    """What is known about an exception, as the record can hold it. Never raises."""
    try:
        found = classify_error(exc)
        least = None if found.retry_after is None else wait_seconds(found.retry_after)
        return Classification(found.kind, text_of(found.code)[:MAX_NAME], least)
    except BaseException:  # noqa: BLE001 - whatever the fields of an application's exception raise
        return Classification("unknown", UNKNOWN_CODE)


def error_record(
    exc: BaseException, attempt: int, classification: Classification, began_at: datetime | None = None
) -> str:
    """The entry of an attempt's error in the record: what Celery's AsyncResult and people need. Never raises.

    began_at: when the attempt began, where that is known. The record of a run has that of its last attempt alone. Where
    runs are traced, the entry has the trace context of the attempt: that of a run is not kept once it has closed.
    """
    trace = tracing.here()
    return storable_json(
        {
            "attempt": attempt,
            "kind": classification.kind,
            "code": classification.code,
            "type": text_of(type(exc).__qualname__)[:MAX_NAME],
            "module": text_of(type(exc).__module__)[:MAX_NAME],
            "message": text_of(exc)[:_MAX_MESSAGE],
            "args": _arguments(exc),
            "traceback": traceback_of(exc)[-_MAX_TRACEBACK:],
            "at": known_now().isoformat(),
            **({} if began_at is None else {"began_at": began_at.isoformat()}),
            **({} if trace is None else {tracing.TRACE: trace}),
        }
    )


def _arguments(exc: BaseException) -> list[Any]:
    """The exception's arguments if JSON can hold them, so that `AsyncResult.get()` can raise it again."""
    if isinstance(exc, CgkTasksError):
        return [text_of(exc)[:_MAX_MESSAGE]]  # with its hint, which is no argument
    try:
        text = storable_json(json.loads(json.dumps(list(exc.args))))
        arguments: list[Any] = json.loads(text)
    except BaseException:  # noqa: BLE001 - an argument that is no JSON, or whose text cannot be made
        return [text_of(exc)[:_MAX_MESSAGE]]
    return arguments if len(text) <= _MAX_MESSAGE else [text_of(exc)[:_MAX_MESSAGE]]
