"""One attempt: the middleware chain around a job, and what follows from how it ended. Shared by all providers."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import structlog
from celery.exceptions import Ignore, Retry

from cgk_tasks.errors import CgkTasksError, PermanentError, RetryLater, RunCancelledError
from cgk_tasks.events.registry import parse_event_json
from cgk_tasks.jobs.classification import Classification, classify_error
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.event_loop import run_coroutine
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import next_delay
from cgk_tasks.jobs.time_limit import deadline
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.worker.cancellation import interruptible

if TYPE_CHECKING:
    from cgk_tasks.events.base import TenantEvent
    from cgk_tasks.tenancy.models import Tenant

log = structlog.get_logger("cgk_tasks.runs")

MAX_RESULT_BYTES = 256 * 1024
_MAX_MESSAGE = 2_000
_MAX_TRACEBACK = 16_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `delay_seconds` for retry and snooze; `error` is JSON for the record."""

    kind: Literal["completed", "retry", "snooze", "failed", "cancelled"]
    value: Any = None
    result: str | None = None
    delay_seconds: float = 0.0
    error: str | None = None
    error_code: str | None = None
    exception: BaseException | None = None


def perform(job: Job, ctx: JobContext[Any], *, max_attempts: int | None, trying_since: datetime | None) -> Outcome:
    """Run one attempt of a job. Never raises for what the job does."""
    try:
        value = _call(job, ctx)
        result = encode(value)
        if len(result) > MAX_RESULT_BYTES:
            raise PermanentError(
                f"The result has {len(result)} bytes, more than {MAX_RESULT_BYTES}.",
                hint="Store it and return a reference.",
                code="INVALID_RESULT",
            )
    except RetryLater as exc:
        return Outcome("snooze", delay_seconds=exc.delay_seconds, exception=exc)
    except RunCancelledError as exc:
        return Outcome("cancelled", exception=exc)
    except Retry as exc:
        return _celery_retry(exc, ctx)
    except Ignore as exc:
        return Outcome("completed", result="null", exception=exc)
    except Exception as exc:  # noqa: BLE001 - whatever a job raises becomes its outcome
        return failure(job, ctx, exc, max_attempts=max_attempts, trying_since=trying_since)
    return Outcome("completed", value=value, result=result)


def _call(job: Job, ctx: JobContext[Any]) -> Any:
    def call_handler() -> Any:
        value = job.handler(ctx)
        return run_coroutine(value) if job.is_async else value

    with interruptible(ctx.run_id), deadline(job.timeout_seconds):
        return call_handler() if job.around is None else job.around(ctx, call_handler)


def failure(
    job: Job,
    ctx: JobContext[Any],
    exc: BaseException,
    *,
    max_attempts: int | None,
    trying_since: datetime | None,
) -> Outcome:
    """What follows from an exception: another attempt after a pause, or the end."""
    classification = classify_error(exc)
    elapsed = (datetime.now(UTC) - trying_since).total_seconds() if trying_since else 0.0
    delay = next_delay(
        job.retry,
        ctx.attempt,
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
    classification = classify_error(exc)
    error = error_record(exc, attempt, classification)
    return Outcome("failed", error=error, error_code=classification.code, exception=exc)


def _celery_retry(exc: Retry, ctx: JobContext[Any]) -> Outcome:
    """`self.retry(...)` in a plain Celery task: the delay is the task's own."""
    options = getattr(getattr(exc, "sig", None), "options", None) or {}
    delay = options.get("countdown") or 0.0
    eta = options.get("eta")
    if isinstance(eta, datetime):
        delay = max(0.0, (eta.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    cause = exc.exc if isinstance(exc.exc, BaseException) else exc
    classification = classify_error(cause)
    error = error_record(cause, ctx.attempt, classification)
    return Outcome("retry", delay_seconds=float(delay), error=error, error_code=classification.code, exception=exc)


def error_record(exc: BaseException, attempt: int, classification: Classification) -> str:
    """The entry of an attempt's error in the record: what Celery's AsyncResult and people need."""
    text = "".join(traceback.format_exception(exc))
    record = {
        "attempt": attempt,
        "kind": classification.kind,
        "code": classification.code,
        "type": type(exc).__qualname__,
        "module": type(exc).__module__,
        "message": str(exc)[:_MAX_MESSAGE],
        "args": _plain_args(exc),
        "traceback": text[-_MAX_TRACEBACK:],
        "at": datetime.now(UTC).isoformat(),
    }
    return json.dumps(record).replace("\\u0000", "")


def _plain_args(exc: BaseException) -> list[Any]:
    """The exception's arguments if JSON can hold them, so that `AsyncResult.get()` can raise it again."""
    if isinstance(exc, CgkTasksError):
        return [str(exc)[:_MAX_MESSAGE]]  # with its hint, which is no argument
    try:
        args = json.loads(json.dumps(list(exc.args)))
    except (TypeError, ValueError, RecursionError):
        return [str(exc)[:_MAX_MESSAGE]]
    return args if len(str(args)) <= _MAX_MESSAGE else [str(exc)[:_MAX_MESSAGE]]


def typed_payload(event: str, payload: str) -> Any:
    """The event model of a stored payload. Raises PayloadInvalidError."""
    return parse_event_json(event, payload)


def inline(job: Job, payload: TenantEvent, tenant: Tenant) -> Any:
    """Run a job here and now, without a record; its database session commits at the end. Raises what the job raises."""
    ctx: JobContext[Any] = JobContext(
        job_id=job.id, run_id=new_run_id(), event=job.event, tenant=tenant, payload=payload,
        max_attempts=job.retry.max_attempts, queued_at=datetime.now(UTC), started_at=datetime.now(UTC),
    )  # fmt: skip
    try:
        value = _call(job, ctx)
        if ctx.opened_session is not None:
            ctx.opened_session.commit()
    finally:
        ctx.close_session()
    return value
