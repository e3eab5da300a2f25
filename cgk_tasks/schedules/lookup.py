"""Finding an entry of SCHEDULES by its name."""

from __future__ import annotations

from difflib import get_close_matches

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.schedules.table import SCHEDULES


class UnknownScheduleError(CgkTasksError):
    """There is no such schedule."""

    code = "UNKNOWN_SCHEDULE"

    def __init__(self, name: str, nearest: str | None = None) -> None:
        self.name = name
        hint = f' Did you mean "{nearest}"?' if nearest else " See: cgk-tasks schedules list"
        super().__init__(f"There is no schedule {name!r}.{hint}")


def find_schedule(name: str) -> Schedule:
    """The entry called `name`. Raises UnknownScheduleError, with the nearest known name."""
    schedule = SCHEDULES.get(name)
    if schedule is None:
        near = get_close_matches(name, SCHEDULES, n=1)
        raise UnknownScheduleError(name, near[0] if near else None)
    return schedule
