"""Every known schedule, and finding one by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgk_tasks.config.nearest import nearest
from cgk_tasks.errors import UnknownScheduleError
from cgk_tasks.events.catalog import catalog_schedules
from cgk_tasks.schedules.schedule import ALL_SCHEDULES, Schedule

SCHEDULES: Mapping[str, Schedule]
"""What `all_schedules` returns; the catalog is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name != "SCHEDULES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return all_schedules()


def all_schedules() -> Mapping[str, Schedule]:
    """The catalog's schedules and those that the application has defined, by name."""
    catalog_schedules()
    return ALL_SCHEDULES


def schedule_replacing(task_id: str | None) -> Schedule | None:
    """The entry that stands for a scheduled task of the former platform; None if there is none."""
    return next((entry for entry in all_schedules().values() if task_id in entry.replaces), None)


def find_schedule(name: str) -> Schedule:
    """The schedule called `name`. Raises UnknownScheduleError, with the nearest known name."""
    known = all_schedules()
    schedule = known.get(name)
    if schedule is None:
        raise UnknownScheduleError(name, nearest(name, known))
    return schedule
