"""How runs ended, written to the record: at once, together at the end of a packet, or with what the job wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import JobLostError, OutcomeNotRecordedError, RunCancelledError, StaleAttemptError
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.runs import ends, log_writing, logs, progress, store
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.ends import Closed, Closing, PutBack
from cgk_tasks.runs.progress import KeptReport
from cgk_tasks.runs.store import Claimed
from cgk_tasks.runs.undo import Undo
from cgk_tasks.sql import postgres
from cgk_tasks.worker import process_state
from cgk_tasks.worker.attempt import Attempt
from cgk_tasks.worker.committing import RefusedError, commit_with_end
from cgk_tasks.worker.continuing import continue_as_new
from cgk_tasks.worker.ending_workflows import close_with_children, is_workflow
from cgk_tasks.worker.executors import EXECUTORS
from cgk_tasks.worker.fan_out import fan_out
from cgk_tasks.worker.gathered import GatheredClosings, closing_of
from cgk_tasks.worker.interruption import RunInterrupted
from cgk_tasks.worker.limited import schedule_held
from cgk_tasks.worker.outcome import Outcome, permanent_failure
from cgk_tasks.worker.suspending import left_by, put_back_with, suspend, undo_first

if TYPE_CHECKING:
    from cgk_tasks.jobs.registry import Job
    from cgk_tasks.tenancy.database import TenantSession
    from cgk_tasks.tenancy.models import Tenant
    from cgk_tasks.worker.shared_transaction import SharedTransaction

log = structlog.get_logger("cgk_tasks.runs")

_MOST_NOT_RECORDED = 3
"""An attempt whose outcome the record refuses has failed. After so many the run is closed, whatever its policy says."""

_MIGRATION_SECONDS = 30.0
"""A run that needs a migration is looked at again after so long."""


class Follow(Protocol):
    """What follows from the end of a run, in the transaction that closes it."""

    def run(self, run: Claimed, outcome: Outcome) -> None:
        """A run that this worker ended: its links, its chain, its chord."""

    def closed(self, closed: Iterable[Closed]) -> None:
        """Runs that were closed with it: parents whose last child it was."""


class Recorder:
    """Writes how the runs of a packet ended. Completions without `ctx.db` are gathered and written with one statement.

    Those with it commit one by one, each with what its job wrote. In a packet they do not each wait for the disk: it
    is flushed once, at the end. What PostgreSQL forgets in a crash before that, it forgets whole, writes and completion
    together, and the run runs again. Those of jobs with `transaction="shared"` commit together.

    An outcome that the record refuses is a failed attempt; nothing that a job says costs the other runs anything.

    is_awaited: somebody is told of the ends, so they are on disk by then.
    """

    def __init__(self, worker_id: str, follow: Follow, *, share_flush: bool = False, is_awaited: bool = False) -> None:
        self._worker_id = worker_id
        self._follow = follow
        self._share_flush, self._is_awaited = share_flush, is_awaited
        self._is_flushed = True
        self._logs: list[logs.RunLog] = []
        self._logs_again: list[logs.RunLog] = []
        self.reports: list[KeptReport] = []
        """What the runs of the packet tell of themselves."""
        self._patience = get_settings().database_patience_seconds
        self._gathered = GatheredClosings(worker_id, follow.closed, self._patience, flush=is_awaited)
        self._shared: SharedTransaction | None = None
        self.disk_seconds = 0.0
        """How long single runs waited for the disk, which those of a packet do together."""

    def end_of(self, run: Claimed) -> Callable[[Attempt, Outcome], Outcome]:
        """The end of this run's attempt."""
        return partial(self.record, run)

    def shared_session(self, run: Claimed, job: Job, tenant: Tenant) -> Callable[[], TenantSession] | None:
        """How the run's job opens `ctx.db` if it shares a transaction with others of the packet; else None."""
        if not job.shares_transaction or not self._share_flush or run.sealed_canvas is not None or run.parent_id:
            return None
        from cgk_tasks.worker.shared_transaction import SharedTransaction, is_apart

        if is_apart(run.event):
            return None
        if self._shared is None:
            self._shared = SharedTransaction(self._worker_id, self.requeue)
        return partial(self._shared.open, tenant)

    def record(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Record an outcome; returns what really happened (a commit can fail, a run can be cancelled meanwhile).

        Raises psycopg.Error when PostgreSQL was away for longer than CGK_DATABASE_PATIENCE_SECONDS.
        """
        try:
            if outcome.kind == "completed":
                outcome = self._complete(run, attempt, outcome)
            return outcome if outcome.kind == "completed" else self._record_other(run, attempt, outcome)
        except Exception as exc:
            if postgres.is_away(exc):
                raise
            log.exception("outcome_not_recorded", outcome=outcome.kind)
            reason = exc.__cause__ if isinstance(exc, RefusedError) and exc.__cause__ is not None else exc
            return self._record_other(run, attempt, self._refused(attempt, reason))
        finally:
            attempt.ctx.close_session()

    def _complete(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        """The attempt's success with what it wrote; or its failure, if that cannot be committed."""
        try:
            if outcome.send_replacement is not None:
                return self._replace(run, attempt, outcome, outcome.send_replacement)
            if outcome.continues_with is not None:
                job, payload = attempt.job.id, outcome.continues_with
                again = continue_as_new(run, job, payload, self._worker_id, self._patience)
                return outcome if again is not None else self._not_ours(run, attempt, outcome)
            session = attempt.ctx.opened_session
            if session is None:
                self.close(run, closing_of(run, "completed", attempt.job.id, outcome, attempt), outcome)
            elif self._shared is not None and self._shared.has(session):
                self._shared.keep(run, closing_of(run, "completed", attempt.job.id, outcome, attempt))
                self._is_flushed = False
            else:
                self._commit(run, attempt, outcome, session)
        except RefusedError:
            raise
        except Exception as exc:  # noqa: BLE001 - the commit of the job's own writes failed: the attempt failed
            attempt.ctx.close_session()
            return attempt.failed(exc)
        return outcome

    def _commit(self, run: Claimed, attempt: Attempt, outcome: Outcome, session: TenantSession) -> None:
        # Nothing outside PostgreSQL may learn of a completion that could still be forgotten.
        later = self._share_flush and run.sealed_canvas is None and not session.is_listened_to
        closing = partial(closing_of, run, "completed", attempt.job.id, outcome, attempt)
        took = commit_with_end(
            session, self._worker_id, run, closing, partial(self._follow_end, run, outcome), flush=not later
        )
        self._is_flushed &= not later
        if not later:
            self.disk_seconds += took

    def _follow_end(self, run: Claimed, outcome: Outcome, closed: Sequence[Closed]) -> None:
        self._follow.run(run, outcome)
        self._follow.closed(closed)

    def _record_other(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        attempt.ctx.close_session()
        if outcome.kind == "failed":
            undo = Undo("failed", outcome.error, outcome.error_code)
            if not outcome.is_undone and undo_first(run, attempt, undo, self._patience):
                return Outcome("suspended", exception=outcome.exception)
            self.close_failed(run, attempt.job.id, outcome, attempt)
            return outcome
        if outcome.kind == "cancelled" and outcome.is_undone:
            self.close(run, closing_of(run, "cancelled", attempt.job.id, outcome, attempt), outcome)
            return outcome
        if outcome.kind == "suspended" and outcome.suspension is not None:
            suspended = suspend(run, attempt.job.id, outcome.suspension, self._patience)
            return outcome if suspended else self._not_ours(run, attempt, outcome)
        return self._go_on_later(run, attempt, outcome)

    def _refused(self, attempt: Attempt, exc: BaseException) -> Outcome:
        """The outcome of an attempt whose own the record refuses. What it says is the framework's, so it can be
        stored.
        """
        refused = OutcomeNotRecordedError(exc)
        limit = min(attempt.max_attempts or attempt.job.retry.max_attempts, _MOST_NOT_RECORDED)
        return replace(attempt, max_attempts=limit).failed(refused)

    def begin_once(self, run: Claimed) -> bool:
        """Note that the run's job begins, which must not run twice. False if this attempt may not begin it."""

        def note() -> bool:
            with postgres.autocommit() as connection:
                return store.begin_once(connection, self._worker_id, run)

        try:
            return postgres.retry_while_unavailable(note, self._patience)
        except psycopg.errors.UndefinedColumn:
            hint = "Runs of jobs with redelivery=False wait until then. Run: cgk-tasks migrate --finish"
            log.warning("run_waits_for_migration", _event=run.event, run=run.id, hint=hint)
            self._put_back([PutBack(run.id, run.tenant_id, run.attempt, "retrying", 1, _MIGRATION_SECONDS)])
            return False

    def save_cursor(self, run: Claimed, cursor: Any, session: TenantSession | None) -> None:
        """Commit what the job wrote so far together with how far it came. Ends the attempt if the worker stops."""
        text = encode(cursor, "Give checkpoint()")

        def save(connection: postgres.AnyConnection) -> None:
            if not store.save_cursor(connection, self._worker_id, run, text):
                raise StaleAttemptError(
                    "This attempt no longer owns its run; what it wrote since the last checkpoint is lost."
                )

        if session is not None:
            session.commit_with(save)
        else:
            with postgres.autocommit() as connection:
                save(connection)
        if process_state.shared().stopping:
            raise RunInterrupted

    def close(self, run: Claimed, closing: Closing, outcome: Outcome) -> None:
        """Close a run; at once if something follows from it (canvas), else with the rest of the packet."""
        if run.sealed_canvas is None:
            self._gathered.add(run, closing)
            return

        def write() -> None:
            with postgres.transaction() as connection, unit_of_work(connection) as unit:
                closed = ends.finish(connection, self._worker_id, [closing])
                if closed:
                    self._follow_end(run, outcome, closed)
            unit.publish()

        postgres.retry_while_unavailable(write, self._patience)
        self._is_flushed &= not self._is_awaited

    def close_failed(self, run: Claimed, job_id: str | None, outcome: Outcome, attempt: Attempt | None = None) -> None:
        closing = closing_of(run, "failed", job_id, outcome, attempt)
        if not is_workflow(job_id):
            self.close(run, closing, outcome)
            return

        close_with_children(self._worker_id, closing, partial(self._follow_end, run, outcome), self._patience)
        self._is_flushed &= not self._is_awaited

    def close_unhandled(self, run: Claimed, reason: Exception, code: str) -> None:
        failed = Outcome("failed", error_code=code, exception=reason)
        self.close(run, closing_of(run, "unhandled", run.job, failed), failed)

    def close_broken(self, run: Claimed, exc: Exception) -> None:
        """Close a run whose attempt broke off outside its job: in what is around it, or in its recording."""
        try:
            self.close_failed(run, run.job, permanent_failure(OutcomeNotRecordedError(exc), run.attempt))
        except psycopg.Error:
            log.exception("outcome_not_recorded", run=run.id)  # reclaimed: nobody works on it any more

    def _replace(self, run: Claimed, attempt: Attempt, outcome: Outcome, send: Callable[[], object]) -> Outcome:
        """Give the run up and send its replacement under the same id, in one transaction."""

        def write() -> bool:
            with postgres.transaction() as connection, unit_of_work(connection) as unit:
                owned = store.replace(connection, self._worker_id, run)
                if owned:
                    send()
            unit.publish()
            return owned

        if postgres.retry_while_unavailable(write, self._patience):
            return outcome
        return self._not_ours(run, attempt, outcome)

    def _go_on_later(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        back = PutBack(run.id, run.tenant_id, run.attempt, "retrying", job=attempt.job.id, key_id=run.key_id)
        if outcome.kind == "retry":
            back = replace(
                back,
                delay_seconds=outcome.delay_seconds,
                error=outcome.error,
                error_code=outcome.error_code,
                payload=outcome.payload if outcome.payload != run.payload else None,
            )
        elif outcome.kind == "snooze":
            back = replace(
                back,
                refund=1,
                delay_seconds=outcome.delay_seconds,
                deferral=outcome.deferral,
                payload=outcome.payload,
            )
        elif not attempt.job.redelivery:
            return self._not_repeated(run, attempt, outcome)
        elif outcome.kind in {"cancelled", "interrupted"}:
            # A job may raise RunCancelledError without anybody having cancelled: then it runs again.
            back = replace(back, state="pending", refund=1)
        left = left_by(attempt, outcome)
        put_back = put_back_with(run, back, left, self._patience) if left else bool(self._put_back([back]))
        return outcome if put_back else self._not_ours(run, attempt, outcome)

    def _not_ours(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        """The record did not let the run go on: it was cancelled, or it is not this attempt's as things stand.

        That may be because PostgreSQL has crashed and forgotten the claim. Then the run is nobody's business here: it
        waits, or the supervisor reclaims it once it sees that no process works on it.
        """
        if not self._is_cancelled(run):
            log.warning("run_not_owned", hint="It was reclaimed, or PostgreSQL has crashed. It is run again.")
            return outcome
        return self._close_cancelled(run, attempt, outcome)

    def _not_repeated(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        """An attempt that was interrupted, of a job that must not run twice: the run is over."""
        if self._is_cancelled(run):
            return self._close_cancelled(run, attempt, outcome)
        failed = permanent_failure(JobLostError("it was interrupted"), attempt.ctx.attempt)
        self.close_failed(run, attempt.job.id, failed, attempt)
        return failed

    def _is_cancelled(self, run: Claimed) -> bool:
        def is_cancelled() -> bool:
            with postgres.autocommit() as connection:
                return store.cancel_requested(connection, self._worker_id, run)

        return postgres.retry_while_unavailable(is_cancelled, self._patience)

    def _close_cancelled(self, run: Claimed, attempt: Attempt, outcome: Outcome) -> Outcome:
        cancelled = Outcome("cancelled", exception=RunCancelledError(run.id))
        if undo_first(run, attempt, Undo("cancelled"), self._patience):
            return Outcome("suspended", exception=cancelled.exception)
        self.close(run, closing_of(run, "cancelled", attempt.job.id, outcome, attempt), cancelled)
        return cancelled

    def requeue(self, runs: Sequence[Claimed]) -> None:
        """Runs of a packet that were not begun: pending again, without costing an attempt."""
        self._put_back([PutBack(run.id, run.tenant_id, run.attempt, "pending", refund=1) for run in runs])

    def postpone(self, runs: Sequence[Claimed], seconds: float) -> None:
        """Runs that are to come again after so long, without costing an attempt."""
        backs = [PutBack(run.id, run.tenant_id, run.attempt, "retrying", 1, seconds) for run in runs]
        if backs:
            self._put_back(backs)

    def hold_for_another_worker(self, run: Claimed) -> bool:
        """Hold a run that this worker has no job for, if another one of its queue has. Returns whether one has.

        The dispatcher releases it within a second, again and again, until a worker takes it that has a job.
        """
        if not EXECUTORS.current().exist_elsewhere(run, self._worker_id):
            return False
        self._put_back([PutBack(run.id, run.tenant_id, run.attempt, "held", refund=1)])
        postgres.retry_while_unavailable(lambda: schedule_held(run.id), self._patience)
        return True

    def _put_back(self, backs: Sequence[PutBack]) -> set[str]:
        def write() -> set[str]:
            with postgres.autocommit() as connection:
                return ends.put_back(connection, self._worker_id, backs)

        return postgres.retry_while_unavailable(write, self._patience)

    def fan_out(self, parent: Claimed, jobs: Sequence[Job]) -> None:
        """One child run for each job of the event; the parent closes when the last child has."""
        fan_out(self._worker_id, parent, jobs, self._patience)

    def keep_log(self, run_log: logs.RunLog, *, is_last: bool) -> None:
        """Write these lines with the rest of the packet. is_last: the run had and will have no other attempt."""
        self._logs.append(run_log)
        if not is_last:
            self._logs_again.append(run_log)

    def flush(self) -> None:
        """Write what was logged and told, so that whoever sees a run's end finds it; then the gathered closings; and
        see that the others are on disk.
        """
        log_writing.write(self._logs, self._logs_again)
        if self.reports:
            progress.write(self.reports)
        if self._shared is not None:
            self._shared.end()
        if not self._is_flushed:
            self._flush_to_disk()
        self._gathered.write()

    def _flush_to_disk(self) -> None:
        try:
            with postgres.autocommit() as connection:
                postgres.flush(connection)
        except psycopg.Error as exc:
            # What a crash undid runs again; what is still there has ended.
            log.warning("flush_failed", reason=str(exc).strip())
