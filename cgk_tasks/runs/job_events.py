"""The events that somebody has a job for, as workers say it on record.

Processes without the application's job modules (a beat in an image of its own, the exporter, the dashboard) know from
it which schedules have a job.
"""

from __future__ import annotations

from collections.abc import Collection

from cgk_tasks.sql.postgres import Connection, execute, fetch, statements

SQL = statements("schedules")


def note_job_events(connection: Connection, events: Collection[str]) -> None:
    """Say that this process has jobs for these events. Cheap to repeat: a row is written anew every ten minutes at
    most.
    """
    execute(connection, SQL["note_job_events"], {"events": sorted(events)})


def noted_job_events(connection: Connection) -> frozenset[str]:
    """The events that some worker had a job for in the last day of the workers' lives, be they alive now or not."""
    return frozenset(row["event"] for row in fetch(connection, SQL["job_events"]))
