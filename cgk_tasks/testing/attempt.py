"""One attempt of a job, run by a test."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cgk_tasks.celery_tasks.exceptions import interpret
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, TenantContextError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import parse_event
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job, all_jobs, find_job
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.clock import known_now
from cgk_tasks.tenancy import Tenant, tenant_context
from cgk_tasks.tenancy.models import presumed
from cgk_tasks.worker.attempt import Attempt, commit, run_attempt, value_of
from cgk_tasks.workflows.define import Workflow
from cgk_tasks.workflows.job_steps import JobSteps

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def run_job(
    job: Handler | Job | str,
    payload: TenantEvent | Mapping[str, Any] | Sequence[TenantEvent | Mapping[str, Any]],
    *,
    tenant: Tenant | str | None = None,
    attempt: int = 1,
    max_attempts: int | None = None,
    cursor: Any = None,
    scheduled_for: datetime | None = None,
    db: Session | None = None,
) -> Any:
    """Run one attempt of a job in this process, as a worker would: tenant context, middleware, time limit.

        assert run_job(send_receipt, OrderCreated(tenant_id="acme", order_id="o-1", total_amount=Decimal(5))) == "sent"

    job: the function under `@define_job`, its id, or a function that is no job yet. payload: the event, or for a
    registered job its fields as a mapping, checked as `send_job` would; a list of those for a job with a Batch. tenant:
    the payload's, if not given.
    attempt, max_attempts, cursor, scheduled_for: what the job is told; the job's own limit if not given.
    db: the session that `ctx.db` gives, which is left as it is: the test commits it or rolls it back, and with it what
    the job has sent with `session=ctx.db`. Without it,
    `ctx.db` is the tenant's own session, which commits when the job returns; only then is a database needed.

    Returns what the job returns. Raises what it raises, PermanentError (INVALID_RESULT) for a result that is not
    JSON, and what a wrong payload or tenant raises. Nothing is retried and nothing is on record.
    """
    given = [payload] if isinstance(payload, TenantEvent | Mapping) else payload
    found = found_job(job, given[0])
    events = [
        one if isinstance(one, TenantEvent) else parse_event(found.event, _with_tenant(one, tenant)) for one in given
    ]
    event = events[0]
    ctx = _Context(
        job_id=found.id,
        run_id=new_run_id(),
        event=found.event,
        tenant=_tenant_of(event, tenant),
        payload=event,
        attempt=attempt,
        max_attempts=max_attempts or found.retry.max_attempts,
        queued_at=known_now(),
        started_at=known_now(),
        has_database=get_settings().database_url is not None,
        cursor=cursor,
        scheduled_for=scheduled_for,
        begin_steps=JobSteps,
        batch=events if len(events) > 1 else (),
    )
    ctx.given_session = db
    made = Attempt(found, ctx, commit, ctx.max_attempts, ctx.started_at, interpret=interpret)
    with tenant_context(ctx.tenant):
        return value_of(run_attempt(made))


class _Context(JobContext[TenantEvent]):
    """A context whose `db` may be a session of the test's own."""

    given_session: Session | None = None

    @property
    def db(self) -> Session:
        return self.given_session if self.given_session is not None else super().db


def found_job(job: Handler | Job | str, payload: TenantEvent | Mapping[str, Any]) -> Job:
    """The job that a test names. Raises ConfigurationError."""
    if isinstance(job, Job):
        return job
    if isinstance(job, str):
        known = find_job(job)
        if known is None:
            raise ConfigurationError(f"There is no job {job!r}.", hint="Import the module that defines it.")
        return known
    event = payload.event_name if isinstance(payload, TenantEvent) else None
    registered = [one for one in all_jobs() if _is_of(one, job)]
    if registered:
        # A function may be the job of several events.
        return next((one for one in registered if one.event == event), registered[0])
    name = getattr(job, "__qualname__", "job")
    if event is None:
        raise ConfigurationError(f"{name} is not a job of any event: give its payload as an event, not as a mapping.")
    return Job(id=name, event=event, handler=job, is_async=inspect.iscoroutinefunction(job))


def _is_of(one: Job, function: Handler) -> bool:
    """Whether it is the function's job, or its workflow."""
    if isinstance(one.handler, Workflow):
        return any(version.function is function for version in one.handler.versions.values())
    return one.handler is function


def _with_tenant(payload: Mapping[str, Any], tenant: Tenant | str | None) -> Mapping[str, Any]:
    if tenant is None or "tenantId" in payload or "tenant_id" in payload:
        return payload
    return {**payload, "tenantId": tenant.id if isinstance(tenant, Tenant) else tenant}


def _tenant_of(event: TenantEvent, tenant: Tenant | str | None) -> Tenant:
    known = tenant if isinstance(tenant, Tenant) else presumed(tenant or event.tenant_id)
    if known.id != event.tenant_id:
        raise TenantContextError(f"The payload is of tenant {event.tenant_id!r}, but tenant={known.id!r} was given.")
    return known
