"""Where the jobs of this process want their events' runs to be. Apart from the jobs, since senders ask for it as well,
and those that define no job need nothing else of them.
"""

from __future__ import annotations

from typing import Final

from cgk_tasks.runs.job_events import Route

ROUTES_OF_EVENTS: Final[dict[str, Route]] = {}
"""The events that this process has a job for. The registry of jobs keeps it."""
LIMITED_JOBS: Final[set[str]] = set()
"""The ids of the jobs that have limits. Kept by the registry as well."""


def find_route(event: str) -> Route | None:
    """Where the event's jobs want its runs to be: what all of them say. None if this process has no job for it."""
    return ROUTES_OF_EVENTS.get(event)


def routes_of_events() -> dict[str, Route]:
    """The events that this process has a job for, each with where its jobs want its runs to be."""
    return dict(ROUTES_OF_EVENTS)


def are_limits_declared() -> bool:
    """Whether any job of this process is limited."""
    return bool(LIMITED_JOBS)
