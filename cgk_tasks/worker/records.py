"""How runs ended, written to the record: at once, together at the end of a packet, or with what the job wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from cgk_tasks.celery_tasks import adapter, canvas, groups
from cgk_tasks.config import get_settings
from cgk_tasks.errors import RetryLater, RunCancelledError, StoreError
from cgk_tasks.flow.accept import publish, unit_of_work
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job
from cgk_tasks.runs import log_writing, logs, store, tracing
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.models import NewRun, new_run_id
from cgk_tasks.runs.store import Claimed, Closing, PutBack
from cgk_tasks.sql import postgres
from cgk_tasks.worker.attempt import Outcome, failure

if TYPE_CHECKING:
    from cgk_tasks.celery_tasks.task import TenantTask
    from cgk_tasks.tenancy.database import TenantSession

log = structlog.get_logger("cgk_tasks.runs")


_MAX_REASON = 500


class LostRunError(StoreError):
    """The run was taken from this attempt while it ran: what it wrote with ctx.db is rolled back."""


class Records:
    """Writes how runs ended. Completions without `ctx.db` are gathered and written with one statement a packet.

    Those with it commit one by one, each with what its job wrote. In a packet they do not each wait for the disk: it
    is flushed once, at the end. What PostgreSQL forgets in a crash before that, it forgets whole, writes and completion
    together, and the run runs again.
    """

    def __init__(self, me: str, *, share_flush: bool = False) -> None:
        self._me = me
        self._share_flush = share_flush
        self._is_flushed = True
        self._gathered: list[Closing] = []
        self._has_children = False
        self._logs: list[logs.RunLog] = []
        self._logs_again: list[logs.RunLog] = []
        self._patience = get_settings().database_patience_seconds
        self.disk_seconds = 0.0
        """How long single runs waited for the disk, which those of a packet do together."""

    def record(self, task: TenantTask, job: Job, run: Claimed, ctx: JobContext[Any], outcome: Outcome) -> Outcome:
        """Record an outcome; returns what really happened (a commit can fail, a run can be cancelled meanwhile)."""
        if isinstance(outcome.exception, canvas.Replaced):
            return self._replace(task, job, run, ctx, outcome.exception)
        if outcome.kind == "completed":
            try:
                self._complete(task, job, run, ctx, outcome)
                return outcome
            except Exception as exc:  # noqa: BLE001 - the commit of the job's own writes failed: the attempt failed
                ctx.close_session()
                outcome = failure(job, ctx, exc, max_attempts=run.max_attempts, trying_since=run.trying_since)
        ctx.close_session()
        if outcome.kind == "failed":
            self.close_failed(run, job.id, outcome, task)
            return outcome
        return self._go_on_later(task, job, run, outcome)

    def _complete(self, task: TenantTask, job: Job, run: Claimed, ctx: JobContext[Any], outcome: Outcome) -> None:
        closing = Closing(run.id, run.attempt, "completed", job.id, outcome.result)
        session = ctx.opened_session
        if session is None:
            self.close(run, closing, task, outcome)
            return
        from cgk_tasks.tenancy.database import leave_tenant

        session.flush()
        connection = session.driver_connection()
        leave_tenant(connection)
        # Nothing outside PostgreSQL may learn of a completion that could still be forgotten.
        later = self._share_flush and run.canvas is None and not session.is_listened_to
        with unit_of_work(connection) as unit:
            closed = store.finish(connection, self._me, [closing], flush=not later)
            if not closed:
                raise LostRunError("This attempt no longer owns its run; what it wrote was rolled back.")
            canvas.follow(task, run, outcome)
            canvas.follow_closed(closed)
        committing = time.monotonic()
        session.commit()
        self._is_flushed &= not later
        if not later:
            self.disk_seconds += time.monotonic() - committing
        publish(unit.accepted)

    def save_cursor(self, run: Claimed, cursor: Any, session: TenantSession | None) -> None:
        """Commit what the job wrote so far together with how far it came."""
        text = encode(cursor)
        if session is None:
            with postgres.autocommit() as connection:
                owned = store.save_cursor(connection, self._me, run, text)
        else:
            from cgk_tasks.tenancy.database import leave_tenant

            session.flush()
            leave_tenant(session.connection())
            owned = store.save_cursor(session.connection(), self._me, run, text)
        if not owned:
            raise LostRunError("This attempt no longer owns its run; what it wrote since the last checkpoint is lost.")
        if session is not None:
            session.commit()

    def close(
        self, run: Claimed, closing: Closing, task: TenantTask | None = None, outcome: Outcome | None = None
    ) -> None:
        """Close a run; at once if something follows from it (canvas), else with the rest of the packet."""
        if run.canvas is None or task is None or outcome is None:
            self._gathered.append(closing)
            self._has_children |= run.parent_id is not None
            return

        def write() -> None:
            with postgres.transaction() as connection, unit_of_work(connection) as unit:
                closed = store.finish(connection, self._me, [closing])
                if closed:
                    canvas.follow(task, run, outcome)
                    canvas.follow_closed(closed)
            publish(unit.accepted)

        postgres.retry_while_unavailable(write, self._patience)

    def _replace(
        self, task: TenantTask, job: Job, run: Claimed, ctx: JobContext[Any], replaced: canvas.Replaced
    ) -> Outcome:
        """Give the run up and send its replacement under the same id, in one transaction."""

        def write() -> bool:
            with postgres.transaction() as connection, unit_of_work(connection) as unit:
                owned = groups.give_up(connection, self._me, run)
                if owned:
                    replaced.signature.delay()
            publish(unit.accepted)
            return owned

        try:
            if postgres.retry_while_unavailable(write, self._patience):
                return Outcome("completed", exception=replaced)
        except Exception as exc:  # noqa: BLE001 - a replacement that cannot be sent fails the run
            outcome = failure(job, ctx, exc, max_attempts=run.max_attempts, trying_since=run.trying_since)
            return self.record(task, job, run, ctx, outcome)
        return self._not_ours(task, job, run, Outcome("completed", exception=replaced))

    def close_failed(self, run: Claimed, job_id: str | None, outcome: Outcome, task: TenantTask | None = None) -> None:
        closing = Closing(run.id, run.attempt, "failed", job_id, None, outcome.error, outcome.error_code)
        self.close(run, closing, task, outcome)

    def _go_on_later(self, task: TenantTask, job: Job, run: Claimed, outcome: Outcome) -> Outcome:
        back = PutBack(run.id, run.attempt, "retrying", job=job.id)
        if outcome.kind == "retry":
            back = PutBack(
                run.id, run.attempt, "retrying", delay_seconds=outcome.delay_seconds, error=outcome.error,
                payload=adapter.changed_arguments(outcome.exception, run), job=job.id,
            )  # fmt: skip
        elif outcome.kind == "snooze":
            back = PutBack(
                run.id, run.attempt, "retrying", refund=1, delay_seconds=outcome.delay_seconds, job=job.id,
                put_off=_put_off(outcome.exception),
            )  # fmt: skip
        elif outcome.kind == "cancelled":
            # A job may raise RunCancelledError without anybody having cancelled: then it runs again.
            back = PutBack(run.id, run.attempt, "pending", refund=1, job=job.id)
        return outcome if self._put_back([back]) else self._not_ours(task, job, run, outcome)

    def _not_ours(self, task: TenantTask, job: Job, run: Claimed, outcome: Outcome) -> Outcome:
        """The record did not let the run go on: it was cancelled, or it is not this attempt's as things stand.

        That may be because PostgreSQL has crashed and forgotten the claim. Then the run is nobody's business here: it
        waits, or the supervisor reclaims it once it sees that no process works on it.
        """

        def is_cancelled() -> bool:
            with postgres.autocommit() as connection:
                return store.cancel_requested(connection, self._me, run)

        if not postgres.retry_while_unavailable(is_cancelled, self._patience):
            log.warning("run_not_owned", hint="It was reclaimed, or PostgreSQL has crashed. It is run again.")
            return outcome
        cancelled = Outcome("cancelled", exception=RunCancelledError(run.id))
        self.close(run, Closing(run.id, run.attempt, "cancelled", job.id, error=outcome.error), task, cancelled)
        return cancelled

    def give_back(self, runs: Sequence[Claimed]) -> None:
        """Runs of a packet that were not begun: pending again, without costing an attempt."""
        self._put_back([PutBack(run.id, run.attempt, "pending", refund=1) for run in runs])

    def _put_back(self, backs: Sequence[PutBack]) -> set[str]:
        def write() -> set[str]:
            with postgres.autocommit() as connection:
                return store.put_back(connection, self._me, backs)

        return postgres.retry_while_unavailable(write, self._patience)

    def fan_out(self, parent: Claimed, jobs: Sequence[Job]) -> None:
        """One child run for each job of the event; the parent closes when the last child has."""
        trace = tracing.sent(parent.event, parent.tenant_id, parent.id)
        children = [
            NewRun(
                id=new_run_id(), tenant_id=parent.tenant_id, event=parent.event, payload=parent.payload,
                queue=parent.queue, priority=parent.priority, job=job.id, max_attempts=parent.max_attempts,
                parent_id=parent.id, scheduled_for=parent.scheduled_for, trace=trace,
            )
            for job in jobs
        ]  # fmt: skip

        def write() -> bool:
            with postgres.transaction() as connection:
                return store.fan_out(connection, self._me, parent, children)

        if postgres.retry_while_unavailable(write, self._patience):
            publish(children)

    def keep_log(self, run_log: logs.RunLog, *, is_last: bool) -> None:
        """Write these lines with the rest of the packet. is_last: the run had and will have no other attempt."""
        self._logs.append(run_log)
        if not is_last:
            self._logs_again.append(run_log)

    def flush(self) -> None:
        """Write what was logged, so that whoever sees a run's end finds its lines; then the gathered completions; and see
        that the others are on disk.
        """
        log_writing.write(self._logs, self._logs_again)
        if not self._is_flushed:
            self._flush_to_disk()
        closings, self._gathered = self._gathered, []
        if not closings:
            return

        def write() -> None:
            if not self._has_children:
                with postgres.autocommit() as connection:
                    store.finish(connection, self._me, closings)
                return
            # A child's end counts on its parent, and something may follow from that: all in one transaction.
            with postgres.transaction() as connection, unit_of_work(connection) as unit:
                canvas.follow_closed(store.finish(connection, self._me, closings))
            publish(unit.accepted)

        try:
            postgres.retry_while_unavailable(write, self._patience)
        except psycopg.Error:
            # The worker's main process sees that nobody runs these any more and reclaims them.
            log.exception("outcomes_not_recorded", runs=[closing.id for closing in closings])

    def _flush_to_disk(self) -> None:
        try:
            with postgres.autocommit() as connection:
                postgres.flush(connection)
        except psycopg.Error as exc:
            # What a crash of PostgreSQL undid runs again; what is still there has ended.
            log.warning("flush_failed", reason=str(exc).strip())


def _put_off(exc: BaseException | None) -> str | None:
    """Why a run comes back without having failed, for `why`."""
    if not isinstance(exc, RetryLater):
        return None
    reason = str(exc.reason)[:_MAX_REASON].replace("\0", "").encode(errors="replace").decode()
    return json.dumps({"code": str(exc.code), "reason": reason})
