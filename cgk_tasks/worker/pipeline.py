"""The way of a packet through a worker's process, from top to bottom.

    claim         the runs of the packet become this worker's
    run_admitted  runs that something limits and that no pass has admitted are held (worker/limited.py)
    run_one       tenant, payload and job of a run; an event with several jobs becomes a parent of one run for each
    attempt       the job's context, and the attempt itself (worker/attempt.py), which is recorded (worker/recorder.py)
    flush         what is left to be written of the packet

Whatever goes wrong with one run costs the others of its packet nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import psycopg
import structlog

from cgk_tasks.admission.guard_reports import refused_here
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.set_rules import set_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.packets import run_times
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, RunFailedError, StoreError, UnknownTenantError
from cgk_tasks.events.registry import parse_events_json
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.rate_limit import kept_by_admission
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.routes import are_limits_declared
from cgk_tasks.jobs.time_limit import kept_alarm
from cgk_tasks.runs import logs, progress, store, tracing
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.store import Claimed
from cgk_tasks.runs.text import text_of
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql import postgres
from cgk_tasks.sql.clock import heard, known_now
from cgk_tasks.worker import batches, counters, limited, process_state
from cgk_tasks.worker.attempt import Attempt, Hooks, Interpreter, run_attempt
from cgk_tasks.worker.executors import EXECUTORS
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.outcome import Outcome, permanent_failure
from cgk_tasks.worker.recorder import Follow, Recorder
from cgk_tasks.worker.steps import RunSteps
from cgk_tasks.workflows.events import is_awaited_alone
from cgk_tasks.workflows.job_steps import JobSteps

if TYPE_CHECKING:
    from cgk_tasks.tenancy.models import Tenant

log = structlog.get_logger("cgk_tasks.runs")

current_run: ContextVar[Claimed | None] = ContextVar("cgk_current_run", default=None)


_LIMITS_AGAIN_SECONDS = 10.0
"""After so long a run comes again of which PostgreSQL did not say whether its limits have room for it."""


class NotClaimedError(StoreError):
    """The runs of a packet could not be claimed, and another worker may have better luck."""


class RunsAgain(Exception):  # noqa: N818 - nothing went wrong for good
    """The run did not end: it goes on later, because of this exception of its job."""

    def __init__(self, reason: BaseException | None) -> None:
        super().__init__(reason)
        self.reason = reason


class Task(Protocol):
    """What the pipeline must know of the task that a packet is for."""

    @property
    def follow(self) -> Follow: ...
    @property
    def interpret(self) -> Interpreter: ...
    def is_for(self, run: Claimed) -> bool:
        """Whether it is the task that executes this run."""

    def jobs(self, run: Claimed) -> Sequence[Job]:
        """The jobs of the run: none, one, or several, which become a run each."""

    def payload(self, run: Claimed) -> Any:
        """What the job is given. Raises what is wrong with it."""

    def hooks(self, run: Claimed) -> Hooks: ...


def run_packet(task: Task, ids: Sequence[str], call: Callable[[], object] | None = None) -> BaseException | None:
    """Claim and run a packet. Returns the error of a single run that did not complete, for whoever reports it;
    RunsAgain, if it will be tried again.

    call: tells somebody who waits that it is on record what the runs have come to. By then it is on disk, too.
    Raises NotClaimedError for a packet whose message has to go back to the broker.
    """
    state = process_state.shared()
    if state.lease.is_over:
        raise NotClaimedError("This worker is out of touch with PostgreSQL.")
    if not state.takes_runs:
        store.forget_dispatch(ids)  # they are dispatched again at once
        return None
    state.begin()
    try:
        with kept_alarm():
            runs = claim(ids)
            recorder = Recorder(worker_id(), task.follow, share_flush=len(runs) > 1, is_awaited=call is not None)
            try:
                error = run_admitted(task, ids, runs, recorder)
            finally:
                recorder.flush()
            if call is not None:
                call()
        run_times().note_now_and_then()
    finally:
        state.end()
    return error if len(ids) == 1 else None


def claim(ids: Sequence[str]) -> list[Claimed]:
    """The packet's runs that are ours now, in its order. Waits while PostgreSQL is away. Raises NotClaimedError."""
    patience = get_settings().worker_timeout_seconds
    try:
        runs = _claim(ids, patience) or _claim_after_a_crash(ids, patience)
    except psycopg.DataError:
        raise  # no worker could claim these
    except (psycopg.Error, StoreError) as exc:
        raise NotClaimedError(f"PostgreSQL does not let this worker claim runs: {text_of(exc)}") from exc
    if runs:
        heard(runs[0].started_at)
    process_state.shared().hold([(run.id, run.attempt) for run in runs])
    _count_packet(len(runs))
    return runs


def _claim(ids: Sequence[str], patience: float) -> list[Claimed]:
    return postgres.retry_while_unavailable(lambda: store.claim(ids, worker_id(), os.getpid()), patience)


def _claim_after_a_crash(ids: Sequence[str], patience: float) -> list[Claimed]:
    """Nothing came back from a claim: wait, if nobody may claim just now because PostgreSQL has crashed."""
    give_up = time.monotonic() + patience
    barred = False
    while postgres.retry_while_unavailable(store.claims_barred, patience):
        barred = True
        if time.monotonic() > give_up:
            raise StoreError("Other workers have not said what they run since PostgreSQL crashed.")
        time.sleep(0.1)
    return _claim(ids, patience) if barred else []


def run_admitted(task: Task, ids: Sequence[str], runs: Sequence[Claimed], recorder: Recorder) -> BaseException | None:
    """Run those that the limits of their jobs let start; the others are held. Returns the error of the last one."""
    if not _are_limits_kept():
        return run_each(task, runs, recorder)
    token = kept_by_admission.set(True)
    try:
        now = admitted(task, ids, runs, recorder)
        return run_each(task, now, recorder) if now or not runs else RunsAgain(None)
    finally:
        kept_by_admission.reset(token)


def _are_limits_kept() -> bool:
    """Whether a run may be limited, by its job or by what is set on record, and passes are made."""
    if not are_limits_declared():
        return bool(set_rules())
    patience = get_settings().database_patience_seconds
    return postgres.retry_while_unavailable(lambda: SWITCH.current().is_on, patience)


def admitted(task: Task, ids: Sequence[str], runs: Sequence[Claimed], recorder: Recorder) -> Sequence[Claimed]:
    """The runs that may be executed now. Those of which nobody can tell come again later, without using an attempt."""
    patience = get_settings().database_patience_seconds
    try:
        return postgres.retry_while_unavailable(
            lambda: limited.hold_limited(ids, runs, task.jobs, worker_id()), patience
        )
    except psycopg.Error as exc:
        if postgres.is_away(exc):
            raise
        log.exception("limits_not_looked_at", next_try_seconds=_LIMITS_AGAIN_SECONDS)
        current_runtime().drop(LANES)
        unknown, others = limited.apart(runs, task.jobs)
        recorder.postpone(unknown, _LIMITS_AGAIN_SECONDS)
        return others


def run_each(task: Task, runs: Sequence[Claimed], recorder: Recorder) -> BaseException | None:
    """Run the packet's runs one after another, as long as its time lasts and the worker does not stop. Returns the
    error of the last one.
    """
    budget, state = get_settings().packet_budget_seconds, process_state.shared()
    error: BaseException | None = None
    begun, seconds, done = time.monotonic(), 0.0, 0
    refused: list[Claimed] = []
    for place, run in enumerate(runs):
        if seconds > budget or state.stopping:
            refused += runs[place:]
            break
        if refused_here and limited.is_refused(run, task.jobs):
            refused.append(run)
            error = RunsAgain(None)
            continue
        if done and run.expires_at is not None and run.expires_at < known_now():
            recorder.requeue([run])  # the dispatcher closes it, and does what follows
        elif not task.is_for(run):
            log.warning("run_of_another_task", _event=run.event, run=run.id, tenant=run.tenant_id)
            recorder.requeue([run])
        else:
            error = guarded(task, run, recorder)
        seconds, done = time.monotonic() - begun, done + 1
    if refused:
        give_back(task, refused, recorder)
    if done:
        run_times().measured(runs[0].event, done, seconds - recorder.disk_seconds)
    return error


def give_back(task: Task, runs: Sequence[Claimed], recorder: Recorder) -> None:
    """Runs of a packet that were not begun: pending again, or back in their lanes if something limits them."""
    if kept_by_admission.get():
        patience = get_settings().database_patience_seconds
        runs = postgres.retry_while_unavailable(lambda: limited.hold_back(runs, task.jobs, worker_id()), patience)
    if runs:
        recorder.requeue(runs)


def guarded(task: Task, run: Claimed, recorder: Recorder) -> BaseException | None:
    """Run one run. What breaks outside its job fails it, and nothing else."""
    token = current_run.set(run)
    try:
        with tracing.attempt(run):
            return run_one(task, run, recorder)
    except Exception as exc:
        log.exception("attempt_failed_outside_its_job", run=run.id, tenant=run.tenant_id)
        if not postgres.is_away(exc):  # else it is reclaimed, once PostgreSQL is back and nobody works on it
            recorder.close_broken(run, exc)
        return exc
    finally:
        logs.current.set(None)
        current_run.reset(token)


def run_one(task: Task, run: Claimed, recorder: Recorder) -> BaseException | None:
    """Find the run's tenant, job and payload, and run it. Without one of them, it is closed."""
    if run.tenant is None:
        return _close_failed(run, None, UnknownTenantError(run.tenant_id), recorder)
    jobs = task.jobs(run)
    if not jobs:
        _without_job(run, recorder)
        return None
    if jobs[0].is_builtin and is_awaited_alone(jobs) and _is_held(run, recorder):
        return None
    if jobs[0].send_rules and jobs[0].takes_batches:
        whole = batches.whole(run, worker_id(), get_settings().database_patience_seconds)
        return None if whole is None else _run_jobs(task, whole, run.tenant, jobs, recorder)  # else another one's now
    return _run_jobs(task, run, run.tenant, jobs, recorder)


def _run_jobs(
    task: Task, run: Claimed, tenant: Tenant, jobs: Sequence[Job], recorder: Recorder
) -> BaseException | None:
    if len(jobs) > 1:
        recorder.fan_out(run, jobs)
        return None
    try:
        batch = parse_events_json(run.event, run.payload) if jobs[0].send_rules and jobs[0].takes_batches else ()
        payload = batch[0] if batch else task.payload(run)
        cursor = None if run.sealed_cursor is None else decode(run.cursor)
    except Exception as exc:  # noqa: BLE001 - the event's model was changed, or what is stored is damaged
        return _close_failed(run, jobs[0].id, exc, recorder)
    ctx: JobContext[Any] = JobContext(
        job_id=jobs[0].id,
        run_id=run.id,
        event=run.event,
        tenant=tenant,
        payload=payload,
        attempt=run.attempt - run.deaths,
        max_attempts=run.max_attempts or jobs[0].retry.max_attempts,
        queued_at=run.created_at,
        started_at=run.started_at,
        scheduled_for=run.scheduled_for,
        cursor=cursor,
        save_cursor=partial(recorder.save_cursor, run) if not jobs[0].shares_transaction else _no_checkpoint,
        open_session=recorder.shared_session(run, jobs[0], tenant) if jobs[0].shares_transaction else None,
        step_record=RunSteps(run),
        begin_steps=JobSteps if not jobs[0].shares_transaction else _no_steps,
        begin_report=partial(progress.begin, run, recorder.reports),
        batch=batch,
    )
    return attempt(task, run, jobs[0], ctx, recorder)


def _no_checkpoint(_cursor: object, _session: object) -> NoReturn:
    raise ConfigurationError(
        'ctx.checkpoint commits, and a job with transaction="shared" commits together with others.',
        hint='Leave transaction="shared" out.',
    )


def _no_steps(_ctx: object) -> NoReturn:
    raise ConfigurationError(
        'Steps commit one by one, and a job with transaction="shared" commits together with others.',
        hint='Leave transaction="shared" out.',
    )


def attempt(task: Task, run: Claimed, job: Job, ctx: JobContext[Any], recorder: Recorder) -> BaseException | None:
    """One attempt of the run's job, with its log lines and its place in the counters. Returns its error."""
    if not job.redelivery and not recorder.begin_once(run):
        return None
    run_log = logs.RunLog(run.id, run.tenant_id, ctx.attempt, list(ctx.batch) or ctx.payload)
    logs.current.set(run_log)
    made = Attempt(
        job, ctx, recorder.end_of(run), run.max_attempts, run.trying_since, task.interpret, task.hooks(run)
    )  # fmt: skip
    outcome = run_attempt(made)
    tracing.ended(job.id, outcome.kind, outcome.exception, outcome.error_code)
    count_attempt(run, outcome, made.seconds)
    if run_log.printed:
        sys.stdout.flush()
    if run_log.lines is not None or run_log.left_out:
        # By the record's own number: an attempt whose process died has one too, and may have left lines.
        goes_on = outcome.kind in {"retry", "snooze", "suspended", "interrupted"}
        recorder.keep_log(run_log, is_last=not goes_on and run.attempt == 1)
    if outcome.kind in {"retry", "snooze"}:
        return RunsAgain(outcome.exception)
    return None if outcome.kind in {"completed", "suspended", "interrupted"} else outcome.exception


def _close_failed(run: Claimed, job_id: str | None, exc: Exception, recorder: Recorder) -> Exception:
    """A run that cannot even begin."""
    recorder.close_failed(run, job_id, permanent_failure(exc, run.attempt))
    _count_end(run, "failed")
    return exc


def _without_job(run: Claimed, recorder: Recorder) -> None:
    """A run that this worker has no job for: another one of its queue takes it, or nobody does."""
    if not _is_held(run, recorder):
        _close_unhandled(run, recorder)


def _is_held(run: Claimed, recorder: Recorder) -> bool:
    """Whether another worker has a job for the run, and it waits for that one."""
    if not recorder.hold_for_another_worker(run):
        return False
    if EXECUTORS.current().is_to_be_said(run):
        hint = "Another worker of this queue takes it. Let all of them name the module of its job in CGK_JOB_MODULES."
        log.warning("run_held_for_another_worker", _event=run.event, run=run.id, queue=run.queue, hint=hint)
    return True


def _close_unhandled(run: Claimed, recorder: Recorder) -> None:
    hint = "No worker of this queue has a job for this event. Is its module in CGK_JOB_MODULES of the workers?"
    log.warning("run_unhandled", _event=run.event, run=run.id, tenant=run.tenant_id, queue=run.queue, hint=hint)
    reason = RunFailedError(
        run.id, "NO_JOB", "no job is registered for this event in its worker: check CGK_JOB_MODULES there"
    )
    recorder.close_unhandled(run, reason, "NO_JOB")
    _count_end(run, "unhandled")


def _count_packet(runs: int) -> None:
    if counted := counters.shared():
        if runs:
            counted.count("packet_runs", runs)  # first: whoever reads meanwhile finds no packet without its runs
            counted.count("packets")
        counted.level("connections", postgres.open_connections())


def count_attempt(run: Claimed, outcome: Outcome, seconds: float) -> None:
    """Count an attempt for the worker's metrics, and the end of its run if it was the last one."""
    if counted := counters.shared():
        counted.attempt(run.event, outcome.kind, seconds)
        if outcome.kind in counters.ENDS and outcome.send_replacement is None:
            counted.ended(run.event, outcome.kind)


def _count_end(run: Claimed, state: str) -> None:
    if counted := counters.shared():
        counted.ended(run.event, state)
