"""Finding an entry of SCHEDULES by its name."""

from __future__ import annotations

from cgk_tasks.errors import UnknownScheduleError
from cgk_tasks.nearest import nearest
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.schedules.table import SCHEDULES


def find_schedule(name: str) -> Schedule:
    """The entry called `name`. Raises UnknownScheduleError, with the nearest known name."""
    schedule = SCHEDULES.get(name)
    if schedule is None:
        raise UnknownScheduleError(name, nearest(name, SCHEDULES))
    return schedule
