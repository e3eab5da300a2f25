"""Which schedules have a job: one that has none does not tick."""

from __future__ import annotations

from cgk_tasks.jobs.registry import events_with_jobs
from cgk_tasks.jobs.routes import routes_of_events
from cgk_tasks.runs.job_events import note_job_events, noted_job_events
from cgk_tasks.sql.postgres import autocommit


def handled_events() -> frozenset[str]:
    """The events that this process has jobs for, or that workers have said they have."""
    with autocommit() as connection:
        return noted_job_events(connection) | events_with_jobs()


def note_own_jobs() -> None:
    """Say on record which events this process has jobs for."""
    with autocommit() as connection:
        note_job_events(connection, routes_of_events())
