"""The worker's side of a run: claim a packet, run each run for its tenant, record how it ended."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from cgk_tasks.broker.packets import run_times
from cgk_tasks.celery_tasks import adapter, canvas
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, RunFailedError, StoreError, UnknownTenantError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job, find_job, jobs_for
from cgk_tasks.jobs.time_limit import kept_alarm
from cgk_tasks.runs import logs, store, tracing
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.store import Claimed, Closing
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.context import reset_current_tenant, set_current_tenant
from cgk_tasks.worker import counters, process_state
from cgk_tasks.worker.attempt import Outcome, perform, permanent_failure, typed_payload
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.records import Records

if TYPE_CHECKING:
    from cgk_tasks.celery_tasks.task import TenantTask

log = structlog.get_logger("cgk_tasks.runs")
_stdlib_log = logging.getLogger("cgk_tasks.runs")

current_run: ContextVar[Claimed | None] = ContextVar("cgk_current_run", default=None)


def run_packet(task: TenantTask, ids: Sequence[str]) -> BaseException | None:
    """Claim and run a packet. Returns the error of a single run that did not complete, for Celery to report."""
    now = process_state.shared()
    if now.fenced:
        return StoreError(
            "This worker is out of touch with PostgreSQL.", hint="The run waits and will be dispatched again."
        )
    now.begin()
    try:
        with kept_alarm():
            return _run_claimed(task, ids)
    finally:
        now.end()


def _run_claimed(task: TenantTask, ids: Sequence[str]) -> BaseException | None:
    settings = get_settings()
    me = worker_id()
    claimed = postgres.retry_while_unavailable(
        lambda: store.claim(ids, me, os.getpid()), settings.worker_timeout_seconds
    )
    if not claimed:
        claimed = _claim_after_a_crash(ids, me, settings.worker_timeout_seconds)
    process_state.shared().hold([(run.id, run.attempt) for run in claimed])
    _count_packet(len(claimed))
    records = Records(me, share_flush=len(claimed) > 1)
    error: BaseException | None = None
    begun, seconds, done = time.monotonic(), 0.0, 0
    for run in claimed:
        if seconds > settings.packet_budget_seconds:
            records.give_back(claimed[done:])
            break
        if done and run.expires_at is not None and run.expires_at < datetime.now(UTC):
            records.give_back([run])  # the dispatcher closes it, and does what follows
        else:
            error = _run_one(task, run, records)
        seconds, done = time.monotonic() - begun, done + 1
    if done:
        run_times.measured(claimed[0].event, done, seconds - records.disk_seconds)
    records.flush()
    run_times.note_now_and_then()
    return error if len(ids) == 1 else None


def _claim_after_a_crash(ids: Sequence[str], me: str, patience: float) -> list[Claimed]:
    """Nothing came back from a claim: wait, if nobody may claim just now because PostgreSQL has crashed."""
    give_up = time.monotonic() + patience
    barred = False
    while postgres.retry_while_unavailable(store.claims_barred, patience):
        barred = True
        if time.monotonic() > give_up:
            return []  # the dispatcher dispatches them again
        time.sleep(0.1)
    return postgres.retry_while_unavailable(lambda: store.claim(ids, me, os.getpid()), patience) if barred else []


def _run_one(task: TenantTask, run: Claimed, records: Records) -> BaseException | None:
    if run.tenant is None:
        error = UnknownTenantError(run.tenant_id)
        records.close_failed(run, None, permanent_failure(error, run.attempt))
        _count_end(run, "failed")
        return error
    token, tenant_token = current_run.set(run), set_current_tenant(run.tenant)
    bound = structlog.contextvars.bind_contextvars(
        tenant=run.tenant_id, _event=run.event, run=run.id, attempt=run.attempt - run.deaths
    )
    try:
        if tracing.is_on():
            with tracing.attempt(run):
                return _for_its_tenant(task, run, records)
        return _for_its_tenant(task, run, records)
    finally:
        logs.current.set(None)
        structlog.contextvars.reset_contextvars(**bound)
        reset_current_tenant(tenant_token)
        current_run.reset(token)


def _for_its_tenant(task: TenantTask, run: Claimed, records: Records) -> BaseException | None:
    if task.is_adapted:
        return _attempt(adapter.job_of(task), adapter.arguments(run), run, records, task)
    jobs: Sequence[Job] = jobs_for(run.event)
    if run.job is not None:
        job = find_job(run.job)
        jobs = (job,) if job is not None else ()
    if not jobs:
        log.warning("run_unhandled", hint="No job is registered for this event. Is its module in CGK_JOB_MODULES?")
        reason = RunFailedError(run.id, "NO_JOB", "no job is registered for this event")
        closing = Closing(run.id, run.attempt, "unhandled", run.job, error_code="NO_JOB")
        records.close(run, closing, task, Outcome("failed", exception=reason))
        _count_end(run, "unhandled")
        return None
    if len(jobs) > 1:
        records.fan_out(run, jobs)
        return None
    try:
        payload = typed_payload(run.event, run.payload)
    except CgkTasksError as exc:
        records.close_failed(run, jobs[0].id, permanent_failure(exc, run.attempt), task)
        _count_end(run, "failed")
        return exc
    return _attempt(jobs[0], payload, run, records, task)


def _attempt(job: Job, payload: Any, run: Claimed, records: Records, task: TenantTask) -> BaseException | None:
    assert run.tenant is not None
    ctx: JobContext[Any] = JobContext(
        job_id=job.id,
        run_id=run.id,
        event=run.event,
        tenant=run.tenant,
        payload=payload,
        attempt=run.attempt - run.deaths,
        max_attempts=run.max_attempts or job.retry.max_attempts,
        queued_at=run.created_at,
        started_at=run.started_at,
        scheduled_for=run.scheduled_for,
        cursor=decode(run.cursor),
        save_cursor=partial(records.save_cursor, run),
    )
    begun = time.perf_counter()
    if _stdlib_log.isEnabledFor(logging.DEBUG):
        log.debug("run_started")
    run_log = logs.RunLog(run.id, run.tenant_id, ctx.attempt, payload)
    logs.current.set(run_log)
    adapter.begins(task, run, payload)
    try:
        outcome = perform(job, ctx, max_attempts=run.max_attempts, trying_since=run.trying_since)
        outcome = records.record(task, job, run, ctx, outcome)
        adapter.ended(task, outcome)
    finally:
        task.request_stack.pop()
        ctx.close_session()
    seconds = time.perf_counter() - begun
    _log_end(outcome, seconds)
    tracing.ended(job.id, outcome.kind, outcome.exception, outcome.error_code)
    count_attempt(run, outcome, seconds)
    if run_log.lines is not None or run_log.left_out:
        # By the record's own number: an attempt whose process died has one too, and may have left lines.
        records.keep_log(run_log, is_last=outcome.kind not in {"retry", "snooze"} and run.attempt == 1)
    return None if outcome.kind == "completed" else outcome.exception


def _log_end(outcome: Outcome, seconds: float) -> None:
    took = round(seconds, 4)
    if outcome.kind == "completed":
        if _stdlib_log.isEnabledFor(logging.INFO):  # asked here, because structlog asks late
            log.info("run_completed", seconds=took)
    elif outcome.kind == "retry":
        log.warning(
            "run_will_retry", seconds=took, code=outcome.error_code, delay_seconds=round(outcome.delay_seconds, 3),
            error=type(outcome.exception).__name__,
        )  # fmt: skip
    elif outcome.kind == "failed":
        log.error(
            "run_failed", seconds=took, code=outcome.error_code, error=type(outcome.exception).__name__,
            exc_info=outcome.exception if get_settings().tracebacks_in_log else None,
        )  # fmt: skip
    elif outcome.kind == "snooze":
        log.info("run_snoozed", seconds=took, delay_seconds=outcome.delay_seconds)
    else:
        log.info("run_cancelled", seconds=took)


def _count_packet(runs: int) -> None:
    if counted := counters.shared():
        counted.count("packets")
        counted.count("packet_runs", runs)
        counted.level("connections", postgres.open_connections())


def count_attempt(run: Claimed, outcome: Outcome, seconds: float) -> None:
    """Count an attempt for the worker's metrics, and the end of its run if it was the last one."""
    if counted := counters.shared():
        counted.attempt(run.event, outcome.kind, seconds)
        if outcome.kind in counters.ENDS and not isinstance(outcome.exception, canvas.Replaced):
            counted.ended(run.event, outcome.kind)


def _count_end(run: Claimed, state: str) -> None:
    if counted := counters.shared():
        counted.ended(run.event, state)
