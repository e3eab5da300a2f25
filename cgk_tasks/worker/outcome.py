"""What follows from how an attempt ended: the run completes, goes on later, or fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cgk_tasks.errors import RetryLater, RunCancelledError, wait_seconds
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.error_record import MAX_NAME, classified, error_record
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import next_delay
from cgk_tasks.runs.steps import Suspension
from cgk_tasks.runs.text import storable_json, text_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.worker.interruption import RunInterrupted
from cgk_tasks.workflows.suspension import WorkflowContinued, WorkflowSuspended, WorkflowUndone

_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `delay_seconds` for retry and snooze; `error` and `deferral` are JSON for the record.

    payload: JSON text that takes the place of the run's payload in the next attempt. send_replacement: sends what takes
    the run's place, under its own id. suspension: what is kept of the steps that the run waits for. is_undone: a
    workflow has undone what it had done, or could not. continues_with: JSON text, with which it begins again.
    """

    kind: Literal["completed", "retry", "snooze", "suspended", "failed", "cancelled", "interrupted"]
    value: Any = None
    result: str | None = None
    delay_seconds: float = 0.0
    error: str | None = None
    error_code: str | None = None
    exception: BaseException | None = None
    deferral: str | None = None
    payload: str | None = None
    send_replacement: Callable[[], object] | None = None
    suspension: Suspension | None = None
    is_undone: bool = False
    continues_with: str | None = None


def outcome_of(
    exc: BaseException,
    job: Job,
    ctx: JobContext[Any],
    *,
    max_attempts: int | None = None,
    trying_since: datetime | None = None,
) -> Outcome:
    """What an exception that left the job means for its run. Never raises."""
    if isinstance(exc, WorkflowSuspended | WorkflowUndone | WorkflowContinued):
        return _of_workflow(exc)
    if isinstance(exc, RetryLater) and (snooze := _snoozed(exc)) is not None:
        return snooze
    if isinstance(exc, RunCancelledError):
        return Outcome("cancelled", exception=exc)
    if isinstance(exc, RunInterrupted):
        return Outcome("interrupted", exception=exc)
    return failure(exc, job, ctx, max_attempts=max_attempts, trying_since=trying_since)


def _of_workflow(exc: WorkflowSuspended | WorkflowUndone | WorkflowContinued) -> Outcome:
    if isinstance(exc, WorkflowUndone):
        return Outcome(exc.state, error=exc.error, error_code=exc.code, exception=exc.exception, is_undone=True)
    if isinstance(exc, WorkflowContinued):
        return Outcome("completed", result="null", continues_with=exc.payload)
    return _suspended(exc.suspension)


def _suspended(found: Suspension) -> Outcome:
    """The outcome of a leg that has ended at a wait, or at a step that is tried again."""
    failure = found.failure
    if failure is None:
        return Outcome("suspended", deferral=found.deferral, suspension=found)
    if failure.error is None:
        return Outcome(
            "snooze", delay_seconds=failure.delay_seconds, deferral=found.deferral, exception=failure.exception,
            suspension=found,
        )  # fmt: skip
    return Outcome(
        "retry", delay_seconds=failure.delay_seconds, error=failure.error, error_code=failure.error_code,
        exception=failure.exception, suspension=found,
    )  # fmt: skip


def _snoozed(exc: RetryLater) -> Outcome | None:
    """The outcome of a run that comes back later; None where an application's own class does not say when."""
    try:
        delay = wait_seconds(exc.delay_seconds)
        deferral = {"code": text_of(exc.code)[:MAX_NAME], "reason": text_of(exc.reason)[:_MAX_REASON]}
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
    classification = classified(exc)
    elapsed = (known_now() - trying_since).total_seconds() if trying_since else 0.0
    delay = next_delay(
        job.retry,
        max(ctx.attempt, 1),
        max_attempts=max_attempts or job.retry.max_attempts,
        elapsed_seconds=elapsed,
        classification=classification,
    )
    error = error_record(exc, ctx.attempt, classification, ctx.started_at)
    if delay is None:
        return Outcome("failed", error=error, error_code=classification.code, exception=exc)
    return Outcome("retry", delay_seconds=delay, error=error, error_code=classification.code, exception=exc)


def permanent_failure(exc: BaseException, attempt: int) -> Outcome:
    """The outcome of a run that cannot even begin: bad payload, unknown tenant."""
    classification = classified(exc)
    error = error_record(exc, attempt, classification)
    return Outcome("failed", error=error, error_code=classification.code, exception=exc)


def retry_after(
    exc: BaseException, cause: BaseException, ctx: JobContext[Any], delay_seconds: float, payload: str | None = None
) -> Outcome:
    """Another attempt after a pause that the job itself has chosen. `cause`: what goes on record as its error."""
    classification = classified(cause)
    error = error_record(cause, ctx.attempt, classification, ctx.started_at)
    return Outcome(
        "retry",
        delay_seconds=delay_seconds,
        error=error,
        error_code=classification.code,
        exception=exc,
        payload=payload,
    )
