"""What schedules have done: their state, their ticks, and which tenants a tick reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cgk_tasks.schedules.schedule import PLATFORM, Schedule
from cgk_tasks.sql.postgres import AnyConnection, Row, autocommit, fetch, statements

SQL = statements("schedules")

_TICK = (
    "scheduled_for", "fired_at", "by_hand", "runs", "suspended", "switched_off", "overlapping", "given_up",
)  # fmt: skip


def known_schedules() -> dict[str, Row]:
    """The schedules that a beat has seen, by name, with their last tick. `is_overridden`: an operator changed them."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["list_schedules"])
    for row in rows:
        seeded = (row["seeded_cron"], row["seeded_timezone"], row["seeded_enabled"])
        row["is_overridden"] = row["is_listed"] and (row["cron"], row["timezone"], row["is_enabled"]) != seeded
    return {row["name"]: row for row in rows}


def last_ticks(name: str, limit: int) -> list[Row]:
    """A schedule's ticks, the last one first."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["ticks"], {"schedule": name, "limit": limit})
    return [{column: row[column] for column in _TICK} for row in rows]


def last_coverage(schedule: Schedule) -> tuple[datetime | None, list[Row]]:
    """The last tick of the clock, and every tenant with its run or with the reason why it has none."""
    with autocommit() as connection:
        values = _last_tick_of_the_clock(connection, schedule)
        return (values["scheduled_for"], fetch(connection, SQL["coverage"], values)) if values else (None, [])


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many tenants the last tick of the clock was for, and how many have a run of it. missed: the first of the
    others, with `tenant_id` and `reason`.
    """

    scheduled_for: datetime
    tenants: int
    reached: int
    missed: Sequence[Row]


def coverage_in_short(schedule: Schedule, most: int) -> Coverage | None:
    """The same in numbers, with so many tenants at most; None if it has not ticked yet."""
    with autocommit() as connection:
        values = _last_tick_of_the_clock(connection, schedule)
        if values is None:
            return None
        found = fetch(connection, SQL["coverage_in_short"], values | {"most": most})[0]
    return Coverage(values["scheduled_for"], found["tenants"], found["reached"], found["missed"])


def _last_tick_of_the_clock(connection: AnyConnection, schedule: Schedule) -> dict[str, Any] | None:
    ticks = fetch(connection, SQL["ticks"], {"schedule": schedule.name, "limit": 100})
    last = next((tick["scheduled_for"] for tick in ticks if not tick["by_hand"]), None)
    if last is None:
        return None
    return {"schedule": schedule.name, "scheduled_for": last, "for_platform": schedule.scope == PLATFORM}
