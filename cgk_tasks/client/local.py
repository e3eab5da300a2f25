"""The local provider: everything in this process, for tests and tiny deployments. Nothing survives the process.

The same validation, states, backoff and idempotency as the real one; a thread pool in place of workers. What is
different: a job that runs is interrupted between two steps of Python code, not inside a call that blocks, and only
the newest closed runs are remembered.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from cgk_tasks.celery_tasks.exceptions import interpret
from cgk_tasks.client.local_queue import DueQueue, IdempotencyKeys
from cgk_tasks.client.local_rules import LocalRules, ruled
from cgk_tasks.client.local_run import LocalHandlers, LocalRun, end_of_child
from cgk_tasks.client.provider import Health, checked_runs
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    CgkTasksError,
    ConfigurationError,
    InvalidOptionError,
    QueueFullError,
    RunStateError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.events.base import TenantEvent, validate_tenant_id
from cgk_tasks.events.registry import parse_events_json
from cgk_tasks.events.typed_values import shown
from cgk_tasks.flow.new_run import SendOptions, new_run
from cgk_tasks.flow.send_rules import Rules, handle_of
from cgk_tasks.jobs.guards import GuardsHere, guarded_by
from cgk_tasks.jobs.registry import Job, find_job
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs import logs
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.event_waits import keys_of
from cgk_tasks.runs.invoked import mail_of
from cgk_tasks.runs.models import CLOSED_STATES, NewRun, RunHandle, RunStatus, State
from cgk_tasks.runs.steps import Suspension
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.far_times import LATEST
from cgk_tasks.tenancy.models import Tenant, presumed
from cgk_tasks.uninterrupted import uninterrupted
from cgk_tasks.worker import interruption
from cgk_tasks.worker.attempt import Attempt, commit, run_attempt
from cgk_tasks.worker.outcome import Outcome, permanent_failure
from cgk_tasks.workflows.awaiting import awaited_fields
from cgk_tasks.workflows.memory import MemoryRecord
from cgk_tasks.workflows.suspension import cannot_continue

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


log = structlog.get_logger("cgk_tasks.local")

_CLOSED = "The local provider was closed."
_CLOSED_HINT = "Make a new client with create_job_client()."


class LocalProvider:
    """tenants: the ids that exist; None accepts every well-formed id, because there is no registry to ask.

    concurrency: how many jobs run at once. max_queue_size: how many runs may be open; more are refused with
    QueueFullError. max_closed_runs: how many closed runs are remembered.
    """

    name = "local"

    def __init__(
        self,
        *,
        tenants: Collection[str] | None = None,
        concurrency: int = 5,
        max_queue_size: int = 10_000,
        max_closed_runs: int = 10_000,
    ) -> None:
        for name, value in (("concurrency", concurrency), ("max_queue_size", max_queue_size)):
            if value < 1:
                raise InvalidOptionError(name, f"must be at least 1, not {value}")
        logs.hide_variables()
        self._tenants = None if tenants is None else {validate_tenant_id(tenant) for tenant in tenants}
        self._limit = max_queue_size
        self._handlers = LocalHandlers()
        self._runs: dict[str, LocalRun] = {}
        self._keys = IdempotencyKeys()
        self._open = 0
        self._closed_runs: deque[str] = deque()
        self._max_closed_runs = max_closed_runs
        self._queue = DueQueue()
        self._rules = LocalRules(
            self._runs, lambda run: self._add(run, None, known_now()), lambda run_id: self._cancel([run_id]),
            self._queue.look_at,
        )  # fmt: skip
        self._guards = GuardsHere()
        self._changed = threading.Condition()
        self._closed = False
        self._slots = threading.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="cgk-local")
        self._timer = threading.Thread(target=self._dispatch_due, name="cgk-local-timer", daemon=True)
        self._timer.start()

    @property
    def version(self) -> str:
        return version("cgk-tasks")

    def send(self, event: TenantEvent, options: SendOptions, session: Session | None = None) -> RunHandle:
        return self.send_batch([(event, options)], session)[0]

    @uninterrupted
    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        if session is not None:
            raise InvalidOptionError("session", "needs the celery provider: local runs are not in a database")
        runs = checked_runs(events, self._checked)
        with self._changed:
            return self._accept(runs)

    def _checked(self, event: TenantEvent, options: SendOptions) -> NewRun:
        wire = event.to_json().decode()
        return new_run(event.event_name, event.tenant_id, wire, options, tenant=self._tenant(event))

    def _tenant(self, event: TenantEvent) -> Tenant:
        tenant_id = validate_tenant_id(event.tenant_id)
        if self._tenants is not None and tenant_id not in self._tenants:
            raise UnknownTenantError(tenant_id)
        return presumed(tenant_id)

    def _accept(self, runs: Sequence[NewRun]) -> list[RunHandle]:
        """All or none, under the lock."""
        if self._closed:
            raise ConfigurationError(_CLOSED, hint=_CLOSED_HINT)
        now = known_now()
        runs, rules = ruled(runs, now)
        earlier = self._keys.match(runs, now, get_settings().idempotency_seconds)
        fresh = [run for run in runs if run.id not in earlier]
        if self._open + len(fresh) > self._limit:
            self._keys.forget(fresh)
            raise QueueFullError(self._limit)
        fates: dict[str, RunHandle] = {}
        for run in fresh:
            fates[run.id] = self._decide(run, rules, now)
            self._changed.notify_all()
        return [handle_of(run, earlier, fates) for run in runs]

    def _decide(self, run: NewRun, rules: Rules, now: datetime) -> RunHandle:
        """Make the run of a send, or what its event's rules make of it."""
        if not run.is_ruled:
            self._add(run, None, now)
            handle = RunHandle(run.id)
        else:
            handle = self._rules.decide(run, rules[run.event], now)
            if handle.outcome == "skipped":
                self._keys.forget([run])
                return handle
            self._keys.move(run, handle.id)
        self._bring(run)
        return handle

    def _add(self, new: NewRun, job: Job | None, now: datetime) -> LocalRun:
        run = self._runs[new.id] = LocalRun.of(new, job, now, MemoryRecord(cancel=self._cancel))
        self._open += 1
        if new.state == "pending":
            self._queue.add_ready(new.id, new.priority)
        elif new.run_at is not None:
            self._queue.look_at(new.run_at, new.id)
        if new.expires_at is not None:
            self._queue.look_at(new.expires_at, new.id)
        self._changed.notify_all()
        return run

    def get_run_status(self, run_id: str) -> RunStatus:
        return self._run(run_id).as_told()

    def _run(self, run_id: str) -> LocalRun:
        run = self._runs.get(run_id)
        if run is None:
            raise UnknownRunError(run_id)
        return run

    @uninterrupted
    def cancel(self, run_id: str) -> RunStatus:
        with self._changed:
            run = self._run(run_id)
            if run.status.state in CLOSED_STATES:
                raise RunStateError(run_id, run.status.state, "cancel")
            self._cancel([run_id])
            return run.status

    def _cancel(self, ids: Sequence[str]) -> None:
        """Cancel those that are open, their children, and theirs."""
        with self._changed:
            for run in [self._runs[one] for one in ids if one in self._runs]:
                if run.status.state == "running" and not run.has_open_children:
                    run.status = replace(run.status, cancel_requested_at=known_now())
                    interruption.request(os.getpid(), [run.status.id])
                elif not run.status.is_closed and not self._undo_first(run, Outcome("cancelled")):
                    self._close(run, "cancelled")
                self._cancel([child.status.id for child in (*run.children, *run.invoked)])

    @uninterrupted
    def signal(
        self, run_id: str, name: str, payload: str, key: str | None = None, session: Session | None = None
    ) -> bool:
        if session is not None:
            raise InvalidOptionError("session", "needs the celery provider: local runs are not in a database")
        with self._changed:
            run = self._run(run_id)
            if run.status.is_closed:
                raise RunStateError(run_id, run.status.state, "signal")
            return self._deliver(run, name, payload, key)

    def _deliver(self, run: LocalRun, name: str, payload: str, key: str | None) -> bool:
        """Keep mail for a run and its child runs, and wake those that wait for it. Under the lock."""
        for child in run.children:
            if not child.status.is_closed:
                self._deliver(child, name, payload, key)
        is_new = run.steps.deliver(name, payload, key)
        if run.status.state in {"scheduled", "retrying"} and run.steps.ends_wait(name):
            run.status = replace(run.status, state="pending", run_at=known_now())
            self._queue.add_ready(run.status.id, run.status.priority)
            self._changed.notify_all()
        return is_new

    def _bring(self, event: NewRun) -> None:
        """Bring an event to the tenant's open workflows, which may wait for it now or later. Under the lock."""
        fields = awaited_fields().get(event.event)
        happens = event.state != "scheduled" or event.merge_key is not None
        for key in keys_of(event, sorted(fields)) if fields and happens else ():
            for run in list(self._runs.values()):
                if run.status.tenant_id == event.tenant_id and not run.status.is_closed and run.status.id != event.id:
                    self._deliver(run, key.mail, event.payload, event.id)

    @uninterrupted
    def retry(self, run_id: str) -> RunHandle:
        with self._changed:
            run = self._closed_run(run_id)
            again = self._add(run.again(), run.job if run.status.parent_id else None, known_now())
            return RunHandle(again.status.id)

    def _closed_run(self, run_id: str) -> LocalRun:
        run = self._run(run_id)
        if not run.status.is_closed:
            raise RunStateError(run_id, run.status.state, "retry")
        return run

    @uninterrupted
    def replay_from(self, run_id: str, step: str) -> RunHandle:
        with self._changed:
            run = self._closed_run(run_id)
            remembered = run.steps.before(run_id, step)
            handle = self.retry(run_id)
            self._runs[handle.id].steps.remember(remembered)
            return handle

    def register_handler(self, event: str, handler: Handler) -> None:
        """Run `handler` for the event, beside what `@define_job` registered."""
        self._handlers.add(event, handler)

    def is_configured(self) -> bool:
        return True

    def health_check(self) -> Health:
        if self._closed:
            return Health(False, error=_CLOSED, hint=_CLOSED_HINT)
        return Health(True)

    def close(self) -> None:
        """Stop starting runs and wait for those that run now; the rest is lost with this object."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._timer.join()
        self._pool.shutdown(wait=True)

    def _dispatch_due(self) -> None:
        """The timer thread: gives each due run to the pool when a place in it is free."""
        while True:
            self._slots.acquire()
            run_id = self._next_due()
            if run_id is None:
                return
            self._pool.submit(self._work, run_id)

    def _next_due(self) -> str | None:
        with self._changed:
            while not self._closed:
                now = known_now()
                for run_id in self._queue.pop_due(now):
                    self._look_at(run_id, now)
                ready = self._queue.pop_ready()
                if ready is not None:
                    return ready
                wait = self._queue.seconds_to_next(now)
                self._changed.wait(None if wait is None else min(wait, threading.TIMEOUT_MAX))
            return None

    def _look_at(self, run_id: str, now: datetime) -> None:
        """A run's time to start or to expire has come, if nothing happened to it meanwhile."""
        run = self._runs.get(run_id)
        if run is None or not run.is_waiting:
            return
        status = run.status
        if status.expires_at is not None and status.expires_at <= now:
            self._close(run, "expired", error_code="EXPIRED")
        elif status.state != "pending" and status.run_at is not None and status.run_at <= now:
            run.status = replace(status, state="pending")
            self._queue.add_ready(run_id, status.priority)

    def _work(self, run_id: str) -> None:
        try:
            self._execute(run_id)
        except Exception:
            log.exception("local_run_failed", run=run_id)
        finally:
            self._slots.release()

    def _execute(self, run_id: str) -> None:
        with self._changed:
            run = self._runs.get(run_id)
            if run is None or run.status.state != "pending":
                return
            status = run.status
            now = known_now()
            jobs = [run.job] if run.job else self._jobs_for(status)
            if not jobs:
                self._close(run, "unhandled", error_code="NO_JOB")
                return
            run.status = replace(status, state="running", started_at=now, attempt=status.attempt + 1)
            if len(jobs) > 1:
                self._fan_out(run, jobs, now)
                return
        outcome = self._attempt(run, jobs[0])
        with self._changed:
            self._record(run, jobs[0], outcome)

    def _jobs_for(self, status: RunStatus) -> list[Job]:
        if status.job is not None and (job := find_job(status.job)) is not None:
            return [job]
        return self._handlers.jobs_for(status.event)

    def _fan_out(self, parent: LocalRun, jobs: Sequence[Job], now: datetime) -> None:
        for job in jobs:
            added = self._add(parent.child(job), job, now)
            parent.steps.hand_down(added.steps)
            parent.children.append(added)

    def _attempt(self, run: LocalRun, job: Job) -> Outcome:
        status = run.status
        settings = get_settings()
        tenant = presumed(status.tenant_id)
        try:
            payloads = parse_events_json(status.event, run.payload)
        except CgkTasksError as exc:  # the event's model was changed since
            return permanent_failure(exc, status.attempt)
        ctx = run.context(job, payloads, tenant, has_database=settings.database_url is not None)
        with guarded_by(self._guards):
            attempt = Attempt(job, ctx, commit, status.max_attempts, run.trying_since, interpret=interpret)
            outcome = run_attempt(attempt)
        if outcome.continues_with is not None and status.parent_id is not None:
            return permanent_failure(cannot_continue(), status.attempt)
        return outcome

    def _record(self, run: LocalRun, job: Job, outcome: Outcome) -> None:
        run.status = replace(run.status, job=job.id)
        if outcome.kind == "failed":
            self._cancel([child.status.id for child in run.invoked])
        if not outcome.is_undone and self._undo_first(run, outcome):
            return
        if run.status.cancel_requested_at is not None and outcome.kind not in {"completed", "failed"}:
            outcome = replace(outcome, kind="cancelled")
        run.note_end(outcome)
        if outcome.kind == "completed":
            self._complete(run, outcome)
        elif outcome.kind == "failed":
            self._close(run, "failed", error_code=outcome.error_code)
        elif outcome.kind == "cancelled":
            self._close(run, "cancelled")
        elif outcome.suspension is not None:
            self._suspend(run, outcome.kind, outcome.suspension)
        else:
            if outcome.kind == "retry":
                run.steps.note_failure()
            due = known_now() + timedelta(seconds=outcome.delay_seconds)
            run.status = replace(run.status, state="retrying", run_at=due)
            self._queue.look_at(due, run.status.id)
            self._changed.notify_all()

    def _complete(self, run: LocalRun, outcome: Outcome) -> None:
        result = decode(outcome.result)
        if outcome.continues_with is not None:
            again = self._add(run.again(outcome.continues_with), None, known_now())
            run.steps.hand_down(again.steps)
            result = {"continuedAs": again.status.id}
        self._close(run, "completed", result=shown(run.status.event, result))

    def _undo_first(self, run: LocalRun, outcome: Outcome) -> bool:
        """Let a workflow undo what it has done before it ends, if it ends and there is such a thing."""
        if not run.begin_undo(outcome):
            return False
        run.status = replace(run.status, state="pending", run_at=known_now(), cancel_requested_at=None)
        self._queue.add_ready(run.status.id, run.status.priority)
        self._changed.notify_all()
        return True

    def _suspend(self, run: LocalRun, kind: str, suspension: Suspension) -> None:
        """A workflow waits, or a step of it is tried again."""
        run.invoked += [self._add(child, None, known_now()) for child in suspension.children]
        due = run.steps.suspend(suspension)
        state: State = "scheduled" if kind == "suspended" else "retrying"
        run.status = replace(run.status, state=state, run_at=due or LATEST, expires_at=None)
        if due is not None:
            self._queue.look_at(due, run.status.id)
        self._changed.notify_all()

    def _close(self, run: LocalRun, state: State, *, result: Any = None, error_code: str | None = None) -> None:
        run.status = replace(run.status, state=state, result=result, error_code=error_code, closed_at=known_now())
        self._open -= 1
        self._closed_runs.append(run.status.id)
        if len(self._closed_runs) > self._max_closed_runs:
            del self._runs[self._closed_runs.popleft()]
        self._changed.notify_all()
        parent = self._runs.get(run.status.parent_id or "")
        if parent is None or parent.status.is_closed:
            return
        if run not in parent.children:
            self._deliver(parent, mail_of(run.status.id), end_of_child(run.status), run.status.state)
        elif not parent.has_open_children:
            state, code, results = parent.end_of_children()
            self._close(parent, state, result=results, error_code=code)
