"""Events and jobs as the dashboard shows them: of this process's code, of what workers said, and of the record."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from cgk_tasks.dashboard.data.dead_letters import GroupCounts, groups_of_event
from cgk_tasks.dashboard.data.job_words import Fact, facts_of_job, facts_of_route, job_of_route
from cgk_tasks.dashboard.data.queries import if_migrated
from cgk_tasks.dashboard.data.work import SQL, Ended, day_of_events, day_of_jobs
from cgk_tasks.dashboard.form_fields import Field, fields_of, flat
from cgk_tasks.events.base import INTERNAL, TenantEvent
from cgk_tasks.events.registry import all_events, find_event
from cgk_tasks.jobs.registry import Job, all_jobs, find_job, jobs_for
from cgk_tasks.runs.job_events import Route, noted_job_events, noted_routes
from cgk_tasks.schedules.lookup import all_schedules
from cgk_tasks.sql.postgres import autocommit, fetch


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event in the list. is_handled: some worker has a job for it. day: None if nothing was sent or closed."""

    name: str
    category: str
    description: str
    jobs: tuple[str, ...]
    is_handled: bool
    day: Ended | None


def listed_events() -> list[ListedEvent]:
    """Every event that is known here, and those of the record that are not; by name."""
    day = day_of_events()
    with autocommit() as connection:
        noted, routes = noted_job_events(connection), noted_routes(connection)
    models = {model.event_name: model for model in all_events()}
    names = sorted({*models, *day, *noted})
    return [_listed(name, models.get(name), day.get(name), routes.get(name), noted) for name in names]


def _listed(
    name: str, model: type[TenantEvent] | None, day: Ended | None, route: Route | None, noted: frozenset[str]
) -> ListedEvent:
    jobs = jobs_of_event(name, route)
    category = model.category if model is not None else ""
    described = description_of(model) if model is not None else ""
    return ListedEvent(name, category, described, jobs, bool(jobs) or name in noted, day)


def jobs_of_event(event: str, route: Route | None) -> tuple[str, ...]:
    """The ids of its jobs, as far as they are known here."""
    here = tuple(job.id for job in jobs_for(event))
    told = job_of_route(route) if route is not None and not here else None
    return here if told is None else (told,)


def description_of(model: type[TenantEvent]) -> str:
    """What its author says about the event."""
    return inspect.cleandoc(model.__doc__ or "")


@dataclass(frozen=True, slots=True)
class EventView:
    """An event. fields: None where no JSON schema can describe them, or the event is not known here. may_be_sent: by
    people.
    """

    name: str
    model: type[TenantEvent] | None
    description: str
    fields: tuple[Field, ...] | None
    may_be_sent: bool
    jobs: tuple[str, ...]
    is_handled: bool
    facts: tuple[Fact, ...]
    schedules: tuple[str, ...]
    tenant_schedules: int
    dead_letters: Sequence[GroupCounts]

    @property
    def dead_runs(self) -> int:
        return sum(group.runs for group in self.dead_letters)


def event_view(name: str) -> EventView:
    """An event by its name; one that nobody here knows has what is on record of it. Raises QueryTimeoutError."""
    model = find_event(name)
    own_name = model.event_name if model is not None else name
    with autocommit() as connection:
        noted, route = noted_job_events(connection), noted_routes(connection).get(own_name)
    of_tenants = if_migrated(lambda connection: fetch(connection, SQL["tenant_schedules"], {"event": own_name})) or []
    fields = fields_of(model) if model is not None else None
    jobs = jobs_of_event(own_name, route)
    return EventView(
        own_name, model, description_of(model) if model is not None else "",
        None if fields is None else tuple(flat(fields)), model is not None and model.category != INTERNAL, jobs,
        bool(jobs) or own_name in noted, tuple(facts_of_route(route)) if route is not None else (),
        tuple(one.name for one in all_schedules().values() if one.event == own_name),
        of_tenants[0]["schedules"] if of_tenants else 0, groups_of_event(own_name),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in the list. day: None if none of its runs closed."""

    id: str
    events: tuple[str, ...]
    description: str
    is_builtin: bool
    is_here: bool
    day: Ended | None


def listed_jobs() -> list[ListedJob]:
    """The jobs of this process, those that workers have said they have, and those of the day's runs; by id."""
    day = day_of_jobs()
    here = {job.id: job for job in all_jobs()}
    elsewhere = {job: event for event, route in _routes().items() if (job := job_of_route(route)) is not None}
    return [_listed_job(job_id, here.get(job_id), elsewhere.get(job_id), day.get(job_id))
            for job_id in sorted({*here, *elsewhere, *day})]  # fmt: skip


def _listed_job(job_id: str, job: Job | None, event: str | None, day: Ended | None) -> ListedJob:
    if job is not None:
        return ListedJob(job_id, (job.event,), job_description(job), job.is_builtin, True, day)
    events = (event,) if event is not None else day.events if day is not None else ()
    return ListedJob(job_id, events, "", is_builtin=False, is_here=False, day=day)


def _routes() -> dict[str, Route]:
    with autocommit() as connection:
        return noted_routes(connection)


def job_description(job: Job) -> str:
    """What its author says about the job: the docstring of its function."""
    versions = getattr(job.handler, "versions", None)
    function = versions[max(versions)].function if versions else job.handler
    return inspect.cleandoc(getattr(function, "__doc__", None) or "")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job. is_here: this process has its code, so all of its rules are known."""

    id: str
    is_here: bool
    description: str
    events: tuple[str, ...]
    facts: tuple[Fact, ...]
    schedules: tuple[str, ...]


def job_view(job_id: str) -> JobView | None:
    """A job by its id: of this process, of what workers have said, or of the record. None if nobody knows it."""
    job = find_job(job_id)
    if job is not None:
        return _job_view(job_id, (job.event,), tuple(facts_of_job(job)), job)
    told = [(event, route) for event, route in _routes().items() if job_of_route(route) == job_id]
    if told:
        event, route = told[0]
        return _job_view(job_id, (event,), tuple(facts_of_route(route)), None)
    rows = if_migrated(lambda connection: fetch(connection, SQL["events_of_job"], {"job": job_id})) or []
    return _job_view(job_id, tuple(row["event"] for row in rows), (), None) if rows else None


def _job_view(job_id: str, events: tuple[str, ...], facts: tuple[Fact, ...], job: Job | None) -> JobView:
    schedules = tuple(one.name for one in all_schedules().values() if one.event in events)
    return JobView(job_id, job is not None, job_description(job) if job is not None else "", events, facts, schedules)
