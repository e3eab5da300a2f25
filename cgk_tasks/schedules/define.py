"""`@define_cron_job`: a job with its schedule, in an application's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, overload

from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import Rule
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import ConfigurationError, as_seconds
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.catalog import catalog_schedules
from cgk_tasks.events.own_events import make_event, own_event_name
from cgk_tasks.events.registry import find_event
from cgk_tasks.jobs.catalog_jobs import known_jobs
from cgk_tasks.jobs.registry import JobDecorator, define_job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.jobs.types import Middleware
from cgk_tasks.schedules.lookup import schedule_replacing
from cgk_tasks.schedules.schedule import Misfire, Overlap, Schedule, Scope, add_schedules

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=TenantEvent)


@overload
def define_cron_job(
    job_id: str,
    *,
    schedule: str | None = ...,
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
    limits: Sequence[Rule] = ...,
    uses: Sequence[str | Guard] = ...,
    middleware: tuple[Middleware, ...] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
    ttl: float | timedelta | None = ...,
) -> JobDecorator[E]: ...
@overload
def define_cron_job(
    job_id: str,
    *,
    schedule: str | None = ...,
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
    limits: Sequence[Rule] = ...,
    uses: Sequence[str | Guard] = ...,
    middleware: tuple[Middleware, ...] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
    ttl: float | timedelta | None = ...,
) -> Callable[[F], F]: ...
def define_cron_job(
    job_id: str,
    *,
    schedule: str | None = None,
    timezone: str | None = None,
    event: str | type[TenantEvent] | None = None,
    payload: Mapping[str, Any] | None = None,
    scope: Scope | None = None,
    misfire: Misfire | None = None,
    overlap: Overlap | None = None,
    spread: float | timedelta | None = None,
    max_age: float | timedelta | None = None,
    retry: RetryConfig | None = None,
    timeout: float | timedelta | None = None,
    concurrency: int | None = None,
    limits: Sequence[Rule] = (),
    uses: Sequence[str | Guard] = (),
    middleware: tuple[Middleware, ...] = (),
    queue: str | None = None,
    priority: int | None = None,
    ttl: float | timedelta | None = None,
) -> Callable[..., Any]:
    """Register the decorated function as a job that runs by the clock, for every active tenant.

        @define_cron_job("nightly-report", schedule="0 3 * * *", timezone="Europe/Berlin", spread=1800)
        def nightly_report(ctx: JobContext[Any]) -> None:
            report_for(ctx.tenant, day=ctx.scheduled_for.date())

    It adds an entry called `job_id` to SCHEDULES; the options are those of `Schedule` and of `define_job`. Without
    `event` it gets an event of its own, `cron.<job_id>`, whose payload is empty. Beat and the workers must both import
    the module: name it in CGK_JOB_MODULES. Raises ConfigurationError, UnknownEventError.

    A job of the catalog that the clock starts takes all that is not given here from there, and its entry of SCHEDULES
    is the catalog's: `@define_cron_job("onboarding-check")`.
    """
    given = {
        "cron": schedule,
        "timezone": timezone,
        "payload": payload,
        "scope": scope,
        "misfire": misfire,
        "overlap": overlap,
        "spread": None if spread is None else as_seconds(spread),
        "max_age": None if max_age is None else as_seconds(max_age),
    }
    entry = _entry(job_id, event, {name: value for name, value in given.items() if value is not None})
    add_job = define_job(
        job_id,
        event=entry.event,
        retry=retry,
        timeout=timeout,
        concurrency=concurrency,
        limits=limits,
        uses=uses,
        middleware=middleware,
        queue=queue,
        priority=priority,
        ttl=ttl,
    )

    def register(handler: F) -> F:
        add_job(handler)
        catalog_schedules()  # they come first in lists
        add_schedules(entry)
        return handler

    return register


def _entry(job_id: str, event: str | type[TenantEvent] | None, given: dict[str, Any]) -> Schedule:
    """The entry of a job: the catalog's with what was given, or one of its own."""
    if event is None and (known := _catalog_entry(job_id)) is not None:
        return replace(known, **given)
    if "cron" not in given:
        raise ConfigurationError(
            f"Job {job_id!r} has no times, and the catalog has no schedule for a job of this id.",
            hint=f'{did_you_mean(job_id, _scheduled_ids())} Else say when it runs: schedule="0 3 * * *".'.strip(),
        )
    name = _own_event(job_id) if event is None else event if isinstance(event, str) else event.event_name
    return Schedule(name=job_id, event=name, **{"timezone": "UTC", **given})


def _catalog_entry(job_id: str) -> Schedule | None:
    job = known_jobs().get(job_id)
    return None if job is None else schedule_replacing(job.schedule)


def _scheduled_ids() -> list[str]:
    return [job_id for job_id, job in known_jobs().items() if job.schedule]


def _own_event(job_id: str) -> str:
    """The event of a job that names none, made once."""
    name = own_event_name("cron.", job_id)
    if find_event(name) is None:
        try:
            make_event(name, f"It is time for {job_id}.")
        except TypeError as exc:
            raise ConfigurationError(
                f"No event can be named after the job {job_id!r} ({exc}).", hint="Give it one: event=..."
            ) from exc
    return name
