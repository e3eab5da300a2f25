"""One attempt of a job, the same for everybody who runs jobs.

Workers, the local provider, eager runs, `testing.run_job` and `create_job_handler` all call `run_attempt`. They differ
in the `end` alone: what becomes of the outcome. What is built in is a list of steps, the outermost first:

    in_context      the run's tenant, and its names on each log line
    logged          a line at the start and one at the end
    timed           how long it took
    observed        hooks of the task: `self.request`, Celery's signals and its `on_success` and the like
    recorded        the end: the outcome goes on record, with what the job wrote
    classified      an exception becomes an outcome: another attempt, failed, cancelled, put off, interrupted
    limited         the time limits, and the interrupt of a run that is cancelled or whose worker stops

Inside of them come the middleware of the job, the first of them the outermost, and the job itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.event_loop import run_coroutine
from cgk_tasks.jobs.result import JobResult
from cgk_tasks.jobs.time_limit import Limits, within
from cgk_tasks.runs.codec import encode_result, run_without_result
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.tenancy.context import reset_current_tenant, set_current_tenant
from cgk_tasks.worker import log_context, process_state
from cgk_tasks.worker.interruption import interruptible
from cgk_tasks.worker.outcome import Outcome, failure, outcome_of
from cgk_tasks.workflows.job_steps import JobSteps
from cgk_tasks.workflows.suspension import WorkflowStopped

if TYPE_CHECKING:
    from cgk_tasks.events.base import TenantEvent
    from cgk_tasks.jobs.registry import Job
    from cgk_tasks.tenancy.models import Tenant

log = structlog.get_logger("cgk_tasks.runs")
_stdlib_log = logging.getLogger("cgk_tasks.runs")

End = Callable[["Attempt", Outcome], Outcome]
"""Does what is to be done with an outcome. Returns what really happened: a commit can fail, a run be cancelled
meanwhile.
"""

Interpreter = Callable[["Attempt", BaseException], Outcome | None]
"""What an exception of another framework means; None where it means nothing special."""

Next = Callable[["Attempt"], Any]


class Step(Protocol):
    """What is around an attempt: calls the next step, and returns what that gave or something in its place."""

    def __call__(self, attempt: Attempt, call_next: Next) -> Any: ...


class Hooks(Protocol):
    """What a task wants to be told of an attempt."""

    def begin(self, attempt: Attempt) -> None:
        """Called first. It may say which time limits the attempt has."""

    def ended(self, outcome: Outcome) -> None: ...
    def leave(self) -> None:
        """Called last, whatever happened."""


@dataclass(slots=True)
class Attempt:
    """A job with what it is given, and what is to happen around it.

    max_attempts, trying_since: of the run, for its retry policy; None for the job's own, and for no limit of the time.
    has_tenant: False for a job of no tenant, which runs in whatever context there is.
    limits: None for the job's own.
    begun_at: when it began (time.perf_counter). seconds: how long it took; known to the steps outside of `timed`.
    """

    job: Job
    ctx: JobContext[Any]
    end: End
    max_attempts: int | None = None
    trying_since: datetime | None = None
    interpret: Interpreter | None = None
    hooks: Hooks | None = None
    has_tenant: bool = True
    limits: Limits | None = None
    begun_at: float = 0.0
    seconds: float = 0.0

    @property
    def seconds_so_far(self) -> float:
        return time.perf_counter() - self.begun_at

    def failed(self, exc: BaseException) -> Outcome:
        """What follows when the attempt fails with this exception."""
        return failure(exc, self.job, self.ctx, max_attempts=self.max_attempts, trying_since=self.trying_since)


def in_context(attempt: Attempt, call_next: Next) -> Any:
    ctx = attempt.ctx
    if not attempt.has_tenant:
        return call_next(attempt)
    token = set_current_tenant(ctx.tenant)
    bound = log_context.bind(ctx.tenant.id, ctx.event, ctx.run_id, ctx.attempt)
    try:
        return call_next(attempt)
    finally:
        log_context.reset(bound)
        reset_current_tenant(token)


def logged(attempt: Attempt, call_next: Next) -> Any:
    if _stdlib_log.isEnabledFor(logging.DEBUG):  # asked here, because structlog asks late
        log.debug("run_started")
    outcome: Outcome = call_next(attempt)
    if outcome.kind == "completed":
        if _stdlib_log.isEnabledFor(logging.INFO):
            log.info("run_completed", seconds=round(attempt.seconds, 4))
        return outcome
    seconds, error = round(attempt.seconds, 4), type(outcome.exception).__name__
    if outcome.kind == "retry":
        delay = round(outcome.delay_seconds, 3)
        log.warning("run_will_retry", seconds=seconds, code=outcome.error_code, delay_seconds=delay, error=error)
    elif outcome.kind == "failed":
        traceback = outcome.exception if get_settings().tracebacks_in_log else None
        log.error("run_failed", seconds=seconds, code=outcome.error_code, error=error, exc_info=traceback)
    elif outcome.kind == "snooze":
        log.info("run_snoozed", seconds=seconds, delay_seconds=outcome.delay_seconds)
    elif outcome.kind == "suspended":
        log.info("run_suspended", seconds=seconds)
    elif outcome.kind == "interrupted":
        log.info("run_interrupted", seconds=seconds, reason="The worker stops. The run goes on elsewhere.")
    else:
        log.info("run_cancelled", seconds=seconds)
    return outcome


def timed(attempt: Attempt, call_next: Next) -> Any:
    attempt.begun_at = time.perf_counter()
    try:
        return call_next(attempt)
    finally:
        attempt.seconds = attempt.ctx.extra["seconds"] = attempt.seconds_so_far


def observed(attempt: Attempt, call_next: Next) -> Any:
    hooks = attempt.hooks
    if hooks is None:
        return call_next(attempt)
    hooks.begin(attempt)
    try:
        outcome: Outcome = call_next(attempt)
        hooks.ended(outcome)
    finally:
        hooks.leave()
    return outcome


def recorded(attempt: Attempt, call_next: Next) -> Any:
    return attempt.end(attempt, call_next(attempt))


def classified(attempt: Attempt, call_next: Next) -> Any:
    try:
        value, result = call_next(attempt)
    except BaseException as exc:  # noqa: BLE001 - also SystemExit and the like: a job fails, its process goes on
        outcome = attempt.interpret(attempt, exc) if attempt.interpret is not None else None
        if outcome is None:
            outcome = outcome_of(
                exc, attempt.job, attempt.ctx, max_attempts=attempt.max_attempts, trying_since=attempt.trying_since
            )
        return outcome
    return Outcome("completed", value=value, result=result)


def limited(attempt: Attempt, call_next: Next) -> Any:
    run_id = attempt.ctx.run_id
    soft, hard = attempt.job.time_limits if attempt.limits is None else attempt.limits
    # Nobody could end a thread, or a process that is the whole worker: there the hard limit is raised in the job too.
    state = process_state.known()
    watched = state.limit(run_id, hard) if hard and state is not None else 0
    try:
        return interruptible(run_id, partial(within, soft, 0.0 if watched else hard, partial(call_next, attempt)))
    finally:
        if watched and state is not None:
            state.lift_limit(watched)


def call_job(attempt: Attempt) -> Any:
    """The job with its middleware. Returns its value, and that as JSON text: `null` where nobody wants it."""
    job, ctx = attempt.job, attempt.ctx
    try:
        value = _call(job, ctx) if job.around is None else job.around(ctx, partial(_call, job, ctx))
    except (Exception, WorkflowStopped):
        ctx.undo_if_due()
        raise
    ctx.undo_if_due()
    # Within the time limit: a generator's work is done here.
    if job.ignores_result is not None and job.ignores_result(ctx):
        return run_without_result(value), "null"
    return encode_result(value, get_settings().max_result_bytes, keep_types=job.keeps_types)


def _call(job: Job, ctx: JobContext[Any]) -> Any:
    value = job.handler(ctx)
    if job.is_async:
        value = run_coroutine(value)
    return value.unwrap() if type(value) is JobResult else value


BUILT_IN: Final[tuple[Step, ...]] = (in_context, logged, timed, observed, recorded, classified, limited)
"""What is around every job, the outermost first."""


def compose(steps: tuple[Step, ...], innermost: Next) -> Next:
    """One function of the steps. It is made once: what belongs to an attempt is in its object alone."""
    composed = innermost
    for step in reversed(steps):
        composed = partial(step, call_next=composed)
    return composed


_run: Final = compose(BUILT_IN, call_job)


def run_attempt(attempt: Attempt) -> Outcome:
    """Run one attempt of a job. Never raises for what the job does: that is in the outcome."""
    outcome: Outcome = _run(attempt)
    return outcome


def commit(attempt: Attempt, outcome: Outcome) -> Outcome:
    """The end of an attempt that nobody keeps a record of: what the job wrote with `ctx.db` is committed if it
    completed.
    """
    try:
        if outcome.kind == "completed" and attempt.ctx.opened_session is not None:
            attempt.ctx.opened_session.commit()
    except Exception as exc:  # noqa: BLE001 - its own writes failed, and so did the attempt
        return attempt.failed(exc)
    finally:
        attempt.ctx.close_session()
    return outcome


def leave_open(attempt: Attempt, outcome: Outcome) -> Outcome:  # noqa: ARG001 - an End
    """The end of an attempt whose caller commits and closes `ctx.db` itself."""
    return outcome


def value_of(outcome: Outcome) -> Any:
    """What the job returned. Raises what it raised."""
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.value


def run_inline(job: Job, payload: TenantEvent, tenant: Tenant) -> Any:
    """Run a job here and now, without a record; its database session commits at the end. Raises what the job raises."""
    now = datetime.now(UTC)
    ctx: JobContext[Any] = JobContext(
        job_id=job.id, run_id=new_run_id(), event=job.event, tenant=tenant, payload=payload,
        max_attempts=job.retry.max_attempts, queued_at=now, started_at=now, begin_steps=JobSteps,
    )  # fmt: skip
    return value_of(run_attempt(Attempt(job, ctx, commit)))
