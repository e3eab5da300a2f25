"""The events that somebody has a job for, as workers say it on record.

Processes without the application's job modules (a beat in an image of its own, the exporter, the dashboard) know from
it which schedules have a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cgk_tasks.sql.postgres import Connection, execute, fetch, statements

SQL = statements("schedules")


class Route(NamedTuple):
    """The queue and priority that an event's jobs want for its runs; None for the default. limits: of its one job, as
    text. send_rules: what decides about its runs when they are sent, as text.
    """

    queue: str | None = None
    priority: int | None = None
    limits: str | None = None
    send_rules: str | None = None


def note_job_events(connection: Connection, routes: Mapping[str, Route]) -> None:
    """Say that this process has jobs for these events, and which queue and priority those want. Cheap to repeat: a row
    is written anew when it changes, and every ten minutes at most.
    """
    names = sorted(routes)
    values = {
        "events": names,
        "queues": [routes[name].queue for name in names],
        "priorities": [routes[name].priority for name in names],
    }
    execute(connection, SQL["note_job_events"], values)


def note_limits(connection: Connection, routes: Mapping[str, Route]) -> None:
    """Say what limits the runs of these events, which are noted."""
    names = sorted(routes)
    execute(connection, SQL["note_limits"], {"events": names, "limits": [routes[name].limits for name in names]})


def note_rules(connection: Connection, routes: Mapping[str, Route]) -> None:
    """The same, and what decides about them when they are sent."""
    names = sorted(routes)
    values = {
        "events": names,
        "limits": [routes[name].limits for name in names],
        "send_rules": [routes[name].send_rules for name in names],
    }
    execute(connection, SQL["note_rules"], values)


def noted_routes(connection: Connection) -> dict[str, Route]:
    """The queues and priorities that jobs want, and their limits and rules, of those events that have any."""
    rows = fetch(connection, SQL["noted_routes"])
    return {row["event"]: Route(row["queue"], row["priority"], row["limits"], row["send_rules"]) for row in rows}


def noted_job_events(connection: Connection) -> frozenset[str]:
    """The events that some worker had a job for in the last day of the workers' lives, be they alive now or not."""
    return frozenset(row["event"] for row in fetch(connection, SQL["job_events"]))
