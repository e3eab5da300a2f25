"""The local provider: everything in this process, for tests and tiny deployments. Nothing survives the process.

The same validation, states, backoff and idempotency as the real one; a thread pool in place of workers.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from cgk_tasks.client.provider import Health
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    IdempotencyConflictError,
    InvalidOptionError,
    QueueFullError,
    RunStateError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.events.base import TenantEvent, validate_tenant_id
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import CLOSED_STATES, NewRun, RunHandle, RunStatus, State, new_run_id
from cgk_tasks.runs.sender import SendOptions, new_run
from cgk_tasks.tasks.context import JobContext
from cgk_tasks.tasks.jobs import Handler, Job, find_job, jobs_for
from cgk_tasks.tasks.runner import Outcome, perform, typed_payload
from cgk_tasks.tenancy.context import tenant_context
from cgk_tasks.tenancy.models import Tenant, presumed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = structlog.get_logger("cgk_tasks.local")


@dataclass
class _Run:
    """A run in memory: its status is replaced as a whole at every change."""

    status: RunStatus
    payload: str
    job: Job | None
    children_open: int = 0
    cancel_requested: bool = False


class LocalProvider:
    """`tenants`: the ids that exist; None accepts every well-formed id, because there is no registry to ask."""

    name = "local"

    def __init__(
        self,
        *,
        tenants: Collection[str] | None = None,
        concurrency: int = 5,
        max_queue_size: int = 10_000,
    ) -> None:
        if concurrency < 1 or max_queue_size < 1:
            raise InvalidOptionError("concurrency and max_queue_size", "must be at least 1")
        self._tenants = None if tenants is None else {validate_tenant_id(tenant) for tenant in tenants}
        self._limit = max_queue_size
        self._handlers: dict[str, list[Job]] = {}
        self._runs: dict[str, _Run] = {}
        self._keys: dict[tuple[str, str, str], tuple[str, bytes, datetime]] = {}
        self._open = 0
        self._due: list[tuple[datetime, int, int, str]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._slots = threading.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="cgk-local")
        self._timer = threading.Thread(target=self._hand_over_due, name="cgk-local-timer", daemon=True)
        self._timer.start()

    @property
    def version(self) -> str:
        return version("cgk-tasks")

    def send(self, event: TenantEvent, options: SendOptions, session: Session | None = None) -> RunHandle:
        return self.send_batch([(event, options)], session)[0]

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        if session is not None:
            raise InvalidOptionError("session", "needs the celery provider: local runs are not in a database")
        runs = [
            new_run(event.event_name, event.tenant_id, event.to_json().decode(), options, tenant=self._tenant(event))
            for event, options in events
        ]
        with self._changed:
            return self._accept(runs)

    def _tenant(self, event: TenantEvent) -> Tenant:
        tenant_id = validate_tenant_id(event.tenant_id)
        if self._tenants is not None and tenant_id not in self._tenants:
            raise UnknownTenantError(tenant_id)
        return presumed(tenant_id)

    def _accept(self, runs: Sequence[NewRun]) -> list[RunHandle]:
        """All or none, under the lock."""
        now = datetime.now(UTC)
        keys = dict(self._keys)
        handles: list[RunHandle] = []
        fresh: list[NewRun] = []
        for run in runs:
            earlier = self._reserve(keys, run, now)
            handles.append(RunHandle(earlier, deduplicated=True) if earlier else RunHandle(run.id))
            if not earlier:
                fresh.append(run)
        if self._open + len(fresh) > self._limit:
            raise QueueFullError(self._limit)
        self._keys = keys
        for run in fresh:
            self._add(run, None, now)
        self._changed.notify_all()
        return handles

    def _reserve(self, keys: dict[tuple[str, str, str], tuple[str, bytes, datetime]], run: NewRun, now: datetime) -> str:
        if run.idempotency_key is None:
            return ""
        key = (run.tenant_id, run.event, run.idempotency_key)
        digest = hashlib.sha256(run.payload.encode()).digest()
        known = keys.get(key)
        if known is not None and known[2] > now:
            if known[1] != digest:
                raise IdempotencyConflictError(run.event, run.idempotency_key, known[0])
            return known[0]
        keys[key] = (run.id, digest, now + timedelta(seconds=get_settings().idempotency_seconds))
        return ""

    def _add(self, run: NewRun, job: Job | None, now: datetime) -> None:
        due = run.run_at or now
        status = RunStatus(
            id=run.id, tenant_id=run.tenant_id, event=run.event, state=run.state, job=job.id if job else run.job,
            max_attempts=run.max_attempts, queue=run.queue, priority=run.priority, payload=decode(run.payload),
            run_at=due, expires_at=run.expires_at, created_at=now, parent_id=run.parent_id, replay_of=run.replay_of,
            idempotency_key=run.idempotency_key,
        )  # fmt: skip
        self._runs[run.id] = _Run(status, run.payload, job)
        self._open += 1
        self._push(due, run.priority, run.id)

    def _push(self, due: datetime, priority: int, run_id: str) -> None:
        heapq.heappush(self._due, (due, -priority, next(self._order), run_id))
        self._changed.notify_all()

    def get_run_status(self, run_id: str) -> RunStatus:
        return self._run(run_id).status

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise UnknownRunError(run_id)
        return run

    def cancel(self, run_id: str) -> RunStatus:
        with self._changed:
            run = self._run(run_id)
            if run.status.state in CLOSED_STATES:
                raise RunStateError(run_id, run.status.state, "cancel")
            for one in [run, *(other for other in self._runs.values() if other.status.parent_id == run_id)]:
                if one.status.state in CLOSED_STATES:
                    continue
                if one.status.state == "running" and not one.children_open:
                    one.cancel_requested = True  # a thread cannot be stopped: it is not retried, and its end is kept
                else:
                    self._close(one, "cancelled")
            return run.status

    def retry(self, run_id: str) -> RunHandle:
        with self._changed:
            run = self._run(run_id)
            status = run.status
            if status.state not in CLOSED_STATES:
                raise RunStateError(run_id, status.state, "retry")
            again = NewRun(
                id=new_run_id(), tenant_id=status.tenant_id, event=status.event, payload=run.payload,
                queue=status.queue, priority=status.priority, max_attempts=status.max_attempts, replay_of=run_id,
            )  # fmt: skip
            self._add(again, run.job if status.parent_id else None, datetime.now(UTC))
            return RunHandle(again.id)

    def register_handler(self, event: str, handler: Handler) -> None:
        """Run `handler` for the event, beside what `@define_job` registered."""
        job = Job(id=f"{event}:{getattr(handler, '__qualname__', 'handler')}", event=event, handler=handler)
        self._handlers.setdefault(event, []).append(job)

    def is_configured(self) -> bool:
        return True

    def health_check(self) -> Health:
        if self._closed:
            return Health(False, error="The local provider was closed. Make a new client with create_job_client().")
        return Health(True)

    def close(self) -> None:
        """Stop handing runs over and wait for those that run now; the rest is lost with this object."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._timer.join()
        self._pool.shutdown(wait=True)

    def _hand_over_due(self) -> None:
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
                now = datetime.now(UTC)
                if self._due and self._due[0][0] <= now:
                    return heapq.heappop(self._due)[3]
                wait = (self._due[0][0] - now).total_seconds() if self._due else None
                self._changed.wait(None if wait is None else min(wait, threading.TIMEOUT_MAX))
            return None

    def _work(self, run_id: str) -> None:
        try:
            self._execute(run_id)
        except Exception:
            log.exception("local_provider_stumbled", run=run_id)
        finally:
            self._slots.release()

    def _execute(self, run_id: str) -> None:
        with self._changed:
            run = self._run(run_id)
            status = run.status
            if status.state not in {"scheduled", "pending", "retrying"}:
                return
            now = datetime.now(UTC)
            if status.expires_at is not None and status.expires_at <= now:
                self._close(run, "expired", error_code="EXPIRED")
                return
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
        return [*jobs_for(status.event), *self._handlers.get(status.event, ())]

    def _fan_out(self, parent: _Run, jobs: Sequence[Job], now: datetime) -> None:
        parent.children_open = len(jobs)
        for job in jobs:
            child = NewRun(
                id=new_run_id(), tenant_id=parent.status.tenant_id, event=parent.status.event,
                payload=parent.payload, queue=parent.status.queue, priority=parent.status.priority, job=job.id,
                max_attempts=parent.status.max_attempts, parent_id=parent.status.id,
            )  # fmt: skip
            self._add(child, job, now)

    def _attempt(self, run: _Run, job: Job) -> Outcome:
        status = run.status
        settings = get_settings()
        tenant = presumed(status.tenant_id)
        ctx: JobContext[Any] = JobContext(
            job_id=job.id, run_id=status.id, event=status.event, tenant=tenant,
            payload=typed_payload(status.event, run.payload), attempt=status.attempt,
            max_attempts=status.max_attempts or job.retry.max_attempts, queued_at=status.created_at,
            started_at=status.started_at, has_database=settings.database_url is not None,
        )  # fmt: skip
        with (
            tenant_context(tenant),
            structlog.contextvars.bound_contextvars(_event=status.event, run=status.id, attempt=status.attempt),
        ):
            try:
                outcome = perform(job, ctx, max_attempts=status.max_attempts, first_started_at=status.created_at)
                if outcome.kind == "completed" and ctx.opened_session is not None:
                    ctx.opened_session.commit()
                return outcome
            finally:
                ctx.close_session()

    def _record(self, run: _Run, job: Job, outcome: Outcome) -> None:
        errors = [*run.status.errors, decode(outcome.error)] if outcome.error else run.status.errors
        run.status = replace(run.status, job=job.id, errors=errors)
        if outcome.kind == "completed":
            self._close(run, "completed", result=decode(outcome.result))
        elif outcome.kind == "failed":
            self._close(run, "failed", error_code=outcome.error_code)
        elif outcome.kind == "cancelled" or run.cancel_requested:
            self._close(run, "cancelled")
        else:
            due = datetime.now(UTC) + timedelta(seconds=outcome.delay_seconds)
            refund = 1 if outcome.kind == "snooze" else 0
            run.status = replace(run.status, state="retrying", run_at=due, attempt=run.status.attempt - refund)
            self._push(due, run.status.priority, run.status.id)

    def _close(self, run: _Run, state: State, *, result: Any = None, error_code: str | None = None) -> None:
        run.status = replace(
            run.status, state=state, result=result, error_code=error_code, closed_at=datetime.now(UTC)
        )
        self._open -= 1
        self._changed.notify_all()
        parent = self._runs.get(run.status.parent_id or "")
        if parent is not None and parent.status.state not in CLOSED_STATES:
            parent.children_open -= 1
            if parent.children_open <= 0:
                self._close_parent(parent)

    def _close_parent(self, parent: _Run) -> None:
        children = [run.status for run in self._runs.values() if run.status.parent_id == parent.status.id]
        results = {child.job or "": child.result for child in children}
        if all(child.state == "completed" for child in children):
            self._close(parent, "completed", result=results)
            return
        state: State = "failed" if any(child.state == "failed" for child in children) else "cancelled"
        code = next((child.error_code for child in children if child.error_code), "CHILD_NOT_COMPLETED")
        self._close(parent, state, result=results, error_code=code)
