"""A queue of named jobs, as its senders and operators see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

import psycopg

from cgk_tasks.client import cancel_run, get_run, replay_run, send_job
from cgk_tasks.errors import InvalidOptionError, PayloadInvalidError, TenantMissingError, UnknownRunError
from cgk_tasks.flow.new_run import queue_name
from cgk_tasks.job_queues.named_jobs import PREFIX, event_of, name_of
from cgk_tasks.runs import store
from cgk_tasks.runs.models import RunHandle, RunStatus, State, new_run_id
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.visibility import refuse_in_context, sees_all


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job of a queue as its run stands in the record. Times are aware datetimes in UTC.

    payload, metadata, result, error: None in lists. attempts: those that have begun. error: of the last attempt that
    failed, with code, type and message.
    """

    id: str
    name: str
    queue: str
    tenant_id: str
    status: State
    priority: int
    attempts: int = 0
    payload: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    result: Any = None
    error: Mapping[str, Any] | None = None
    error_code: str | None = None
    created_at: datetime | None = None
    run_at: datetime | None = None
    started_at: datetime | None = None
    closed_at: datetime | None = None

    @classmethod
    def of(cls, run: RunStatus, *, is_whole: bool) -> QueuedJob:
        """Of a run. is_whole: whether its payload was read."""
        given: Mapping[str, Any] = run.payload if is_whole and isinstance(run.payload, Mapping) else {}
        return cls(
            id=run.id, name=name_of(run.event) or run.event, queue=run.queue, tenant_id=run.tenant_id,
            status=run.state, priority=run.priority, attempts=run.attempt,
            payload=given.get("data"), metadata=given.get("metadata"),
            result=run.result if is_whole else None, error=run.error if is_whole else None,
            error_code=run.error_code, created_at=run.created_at, run_at=run.run_at, started_at=run.started_at,
            closed_at=run.closed_at,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobQueue:
    """What `create_job_queue` makes: the jobs of one queue."""

    name: str

    def enqueue(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tenant_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunHandle:
        """Put a job into the queue; its handler runs in a worker. Returns once it is on record.

        payload, metadata: objects that JSON can carry, kept like other payloads. delay: seconds or timedelta, years
        are fine. priority: 0 to 9, 9 is urgent. tenant_id: the tenant of the context, if not given. Raises
        TenantMissingError without either, and what `send_job` raises.
        """
        here = find_current_tenant()
        tenant = tenant_id or (None if here is None else here.id)
        if tenant is None:
            raise TenantMissingError(name)
        event = event_of(name)
        for what, given in (("payload", payload), ("metadata", metadata)):
            if given is not None and not isinstance(given, Mapping):
                raise PayloadInvalidError(
                    event.event_name, [f"{what} must be an object with named fields, not {type(given).__name__}"]
                )
        fields: Any = {"tenantId": tenant, "data": dict(payload or {}), "metadata": dict(metadata or {})}
        return send_job(event.event_name, fields, delay=delay, priority=priority, queue=self.name)

    def get_job(self, job_id: str) -> QueuedJob:
        """The job as it stands. Raises UnknownRunError if this queue has none of this id."""
        return QueuedJob.of(self._run(job_id), is_whole=True)

    def list_jobs(
        self, status: State | None = None, *, tenant_id: str | None = None, limit: int = 50
    ) -> list[QueuedJob]:
        """The queue's jobs, open and closed, the newest first, without what they carry: `get_job` has that.

        In the context of a tenant, only that tenant's. Raises InvalidOptionError for a status that there is not.
        """
        if status is not None and status not in get_args(State):
            raise InvalidOptionError("status", f"must be one of {', '.join(get_args(State))}, not {status!r}")
        if not limit >= 1:
            raise InvalidOptionError("limit", f"must be at least 1, not {limit!r}")
        here = find_current_tenant()
        if not sees_all() and here is not None:
            if tenant_id is not None:
                refuse_in_context("The jobs of another tenant", tenant_id)
            tenant_id = here.id
        try:
            found = store.listing(
                tenant_id=tenant_id, state=status, queue=self.name, event_prefix=PREFIX, limit=limit
            )  # fmt: skip
        except psycopg.Error as exc:
            raise postgres.explain(exc) from exc
        return [QueuedJob.of(run, is_whole=False) for run in found]

    def cancel_job(self, job_id: str) -> QueuedJob:
        """Cancel a job: at once if it waits, within a second if it runs. Raises UnknownRunError, RunStateError."""
        return QueuedJob.of(cancel_run(self._run(job_id).id), is_whole=True)

    def retry_job(self, job_id: str) -> RunHandle:
        """Enqueue a job that has ended once more, as a new job. Raises UnknownRunError, RunStateError."""
        return replay_run(self._run(job_id).id)

    def _run(self, job_id: str) -> RunStatus:
        run = get_run(job_id)
        if run.queue != self.name or name_of(run.event) is None:
            raise UnknownRunError(job_id)
        return run


def create_job_queue(name: str) -> JobQueue:
    """A queue of jobs that have a name instead of an event.

        emails = create_job_queue("emails")
        job = emails.enqueue("send-receipt", {"order": "o-1"}, tenant_id="acme", delay=60)
        emails.get_job(job.id).status

    Nothing has to be made or declared anywhere: a queue exists once something is in it. Each job is a run, of the event
    `queued.NAME`. Raises InvalidOptionError for what is no name of a queue.
    """
    return JobQueue(queue_name(name))


def create_job_id() -> str:
    """A new id as jobs and runs have it, a UUIDv7: ids sort by the time they were made."""
    return new_run_id()
