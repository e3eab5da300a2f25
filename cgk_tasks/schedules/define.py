"""`@define_cron_job`: a job with its schedule, in an application's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, overload

from cgk_tasks.admission.rules import Limit
from cgk_tasks.errors import ConfigurationError, as_seconds
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.catalog import catalog_schedules
from cgk_tasks.events.naming import class_name
from cgk_tasks.events.registry import find_event
from cgk_tasks.jobs.registry import JobDecorator, define_job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.jobs.types import Middleware
from cgk_tasks.schedules.schedule import EVERY_TENANT, Misfire, Overlap, Schedule, Scope, add_schedules

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=TenantEvent)


@overload
def define_cron_job(
    job_id: str,
    *,
    schedule: str,
    timezone: str = ...,
    event: type[E],
    payload: Mapping[str, Any] | None = ...,
    scope: Scope = ...,
    misfire: Misfire = ...,
    overlap: Overlap = ...,
    spread: float | timedelta = ...,
    max_age: float | timedelta = ...,
    retry: RetryConfig | None = ...,
    timeout: float | timedelta | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Limit] = ...,
    middleware: tuple[Middleware, ...] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
) -> JobDecorator[E]: ...
@overload
def define_cron_job(
    job_id: str,
    *,
    schedule: str,
    timezone: str = ...,
    event: str | None = ...,
    payload: Mapping[str, Any] | None = ...,
    scope: Scope = ...,
    misfire: Misfire = ...,
    overlap: Overlap = ...,
    spread: float | timedelta = ...,
    max_age: float | timedelta = ...,
    retry: RetryConfig | None = ...,
    timeout: float | timedelta | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Limit] = ...,
    middleware: tuple[Middleware, ...] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
) -> Callable[[F], F]: ...
def define_cron_job(
    job_id: str,
    *,
    schedule: str,
    timezone: str = "UTC",
    event: str | type[TenantEvent] | None = None,
    payload: Mapping[str, Any] | None = None,
    scope: Scope = EVERY_TENANT,
    misfire: Misfire = "once",
    overlap: Overlap = "skip",
    spread: float | timedelta = 0.0,
    max_age: float | timedelta = 86_400.0,
    retry: RetryConfig | None = None,
    timeout: float | timedelta | None = None,
    concurrency: int | None = None,
    limits: Sequence[Limit] = (),
    middleware: tuple[Middleware, ...] = (),
    queue: str | None = None,
    priority: int | None = None,
) -> Callable[..., Any]:
    """Register the decorated function as a job that runs by the clock, for every active tenant.

        @define_cron_job("nightly-report", schedule="0 3 * * *", timezone="Europe/Berlin", spread=1800)
        def nightly_report(ctx: JobContext[Any]) -> None:
            report_for(ctx.tenant, day=ctx.scheduled_for.date())

    It adds an entry called `job_id` to SCHEDULES; the options are those of `Schedule` and of `define_job`. Without
    `event` it gets an event of its own, `cron.<job_id>`, whose payload is empty. Beat and the workers must both import
    the module: name it in CGK_JOB_MODULES. Raises ConfigurationError, UnknownEventError.
    """
    name = _own_event(job_id) if event is None else event if isinstance(event, str) else event.event_name
    entry = Schedule(
        job_id,
        schedule,
        timezone,
        name,
        payload or {},
        scope,
        misfire,
        overlap,
        as_seconds(spread),
        as_seconds(max_age),
    )
    add_job = define_job(
        job_id,
        event=name,
        retry=retry,
        timeout=timeout,
        concurrency=concurrency,
        limits=limits,
        middleware=middleware,
        queue=queue,
        priority=priority,
    )

    def register(handler: F) -> F:
        add_job(handler)
        catalog_schedules()  # they come first in lists
        add_schedules(entry)
        return handler

    return register


def _own_event(job_id: str) -> str:
    """The event of a job that names none, made once."""
    first, *rest = [part for part in job_id.replace("_", "-").replace(".", "-").split("-") if part]
    name = f"cron.{first[0].lower()}{first[1:]}{''.join(part[0].upper() + part[1:] for part in rest)}"
    if find_event(name) is None:
        try:
            model: Any = type(
                class_name(name),
                (TenantEvent,),
                {"__doc__": f"It is time for {job_id}.", "__module__": __name__},
                event=name,
            )
        except TypeError as exc:
            raise ConfigurationError(
                f"No event can be named after the job {job_id!r} ({exc}).", hint="Give it one: event=..."
            ) from exc
        assert issubclass(model, TenantEvent)
    return name
