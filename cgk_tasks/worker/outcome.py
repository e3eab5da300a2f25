"""What follows from how an attempt ended: the run completes, goes on later, or fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cgk_tasks.errors import CgkTasksError, RetryLater, RunCancelledError, wait_seconds
from cgk_tasks.jobs.classification import UNKNOWN_CODE, Classification, classify_error
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import next_delay
from cgk_tasks.runs.text import storable_json, text_of, traceback_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.worker.interruption import RunInterrupted

_MAX_MESSAGE = 2_000
_MAX_TRACEBACK = 16_000
_MAX_REASON = 500
_MAX_NAME = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `delay_seconds` for retry and snooze; `error` and `deferral` are JSON for the record.

    payload: JSON text that takes the place of the run's payload in the next attempt. send_replacement: sends what takes
    the run's place, under its own id.
    """

    kind: Literal["completed", "retry", "snooze", "failed", "cancelled", "interrupted"]
    value: Any = None
    result: str | None = None
    delay_seconds: float = 0.0
    error: str | None = None
    error_code: str | None = None
    exception: BaseException | None = None
    deferral: str | None = None
    payload: str | None = None
    send_replacement: Callable[[], object] | None = None


def outcome_of(
    exc: BaseException,
    job: Job,
    ctx: JobContext[Any],
    *,
    max_attempts: int | None = None,
    trying_since: datetime | None = None,
) -> Outcome:
    """What an exception that left the job means for its run. Never raises."""
    if isinstance(exc, RetryLater) and (snooze := _snoozed(exc)) is not None:
        return snooze
    if isinstance(exc, RunCancelledError):
        return Outcome("cancelled", exception=exc)
    if isinstance(exc, RunInterrupted):
        return Outcome("interrupted", exception=exc)
    return failure(exc, job, ctx, max_attempts=max_attempts, trying_since=trying_since)


def _snoozed(exc: RetryLater) -> Outcome | None:
    """The outcome of a run that comes back later; None where an application's own class does not say when."""
    try:
        delay = wait_seconds(exc.delay_seconds)
        deferral = {"code": text_of(exc.code)[:_MAX_NAME], "reason": text_of(exc.reason)[:_MAX_REASON]}
    except BaseException:  # noqa: BLE001 - whatever its fields raise
        return None
    return Outcome("snooze", delay_seconds=delay, exception=exc, deferral=storable_json(deferral))


def failure(
    exc: BaseException,
    job: Job,
    ctx: JobContext[Any],
    *,
    max_attempts: int | None = None,
    trying_since: datetime | None = None,
) -> Outcome:
    """What follows from a failed attempt: another one after a pause, or the end."""
    classification = _classified(exc)
    elapsed = (known_now() - trying_since).total_seconds() if trying_since else 0.0
    delay = next_delay(
        job.retry,
        max(ctx.attempt, 1),
        max_attempts=max_attempts or job.retry.max_attempts,
        elapsed_seconds=elapsed,
        classification=classification,
    )
    error = error_record(exc, ctx.attempt, classification)
    if delay is None:
        return Outcome("failed", error=error, error_code=classification.code, exception=exc)
    return Outcome("retry", delay_seconds=delay, error=error, error_code=classification.code, exception=exc)


def permanent_failure(exc: BaseException, attempt: int) -> Outcome:
    """The outcome of a run that cannot even begin: bad payload, unknown tenant."""
    classification = _classified(exc)
    error = error_record(exc, attempt, classification)
    return Outcome("failed", error=error, error_code=classification.code, exception=exc)


def retry_after(
    exc: BaseException, cause: BaseException, attempt: int, delay_seconds: float, payload: str | None = None
) -> Outcome:
    """Another attempt after a pause that the job itself has chosen. `cause`: what goes on record as its error."""
    classification = _classified(cause)
    error = error_record(cause, attempt, classification)
    return Outcome(
        "retry",
        delay_seconds=delay_seconds,
        error=error,
        error_code=classification.code,
        exception=exc,
        payload=payload,
    )


def _classified(exc: BaseException) -> Classification:
    """What is known about an exception, as the record can hold it. Never raises."""
    try:
        found = classify_error(exc)
        least = None if found.retry_after is None else wait_seconds(found.retry_after)
        return Classification(found.kind, text_of(found.code)[:_MAX_NAME], least)
    except BaseException:  # noqa: BLE001 - whatever the fields of an application's exception raise
        return Classification("unknown", UNKNOWN_CODE)


def error_record(exc: BaseException, attempt: int, classification: Classification) -> str:
    """The entry of an attempt's error in the record: what Celery's AsyncResult and people need. Never raises."""
    return storable_json(
        {
            "attempt": attempt,
            "kind": classification.kind,
            "code": classification.code,
            "type": text_of(type(exc).__qualname__)[:_MAX_NAME],
            "module": text_of(type(exc).__module__)[:_MAX_NAME],
            "message": text_of(exc)[:_MAX_MESSAGE],
            "args": _arguments(exc),
            "traceback": traceback_of(exc)[-_MAX_TRACEBACK:],
            "at": known_now().isoformat(),
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
