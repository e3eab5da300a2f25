"""How many tenants a tick reaches: of every schedule roughly, for a whole day, and of one as it would be now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cgk_tasks.schedules.schedule import PLATFORM, Schedule
from cgk_tasks.sql.postgres import autocommit, fetch, statements

SQL, TRANSITIONS = statements("schedules"), statements("transitions")


@dataclass(frozen=True, slots=True)
class Reach:
    """Who would get a run, and how many tenants would not, and why."""

    runs: int
    suspended: int = 0
    switched_off: int = 0
    overlapping: int = 0

    @property
    def left_out(self) -> int:
        return self.suspended + self.switched_off + self.overlapping


def reach_of_tick(schedule: Schedule, tenant_id: str | None = None) -> Reach:
    """What a tick would do now, for one tenant or for all. Makes nothing."""
    is_for_platform = schedule.scope == PLATFORM
    values = {
        "schedule": schedule.name, "overlap": schedule.overlap, "for_platform": is_for_platform, "tenant_id": tenant_id,
    }  # fmt: skip
    with autocommit() as connection:
        reasons = Counter(row["reason"] for row in fetch(connection, TRANSITIONS["tenants_of_tick"], values))
    if is_for_platform and not reasons and tenant_id is None:
        return Reach(1)  # the tick makes the platform's own tenant
    return Reach(reasons[None], reasons["suspended"], reasons["switched_off"], reasons["overlapping"])


def tenants_reached(schedules: Iterable[Schedule]) -> dict[str, int]:
    """How many active tenants have each schedule switched on, by its name; 1 for one of the platform.

    What still runs is not looked at: by then it may have ended.
    """
    with autocommit() as connection:
        found = fetch(connection, SQL["reached"])[0]
    active, off = found["active"], found["off"] or {}
    return {one.name: 1 if one.scope == PLATFORM else max(0, active - off.get(one.name, 0)) for one in schedules}
