"""What schedules have done: their state, their ticks, and which tenants a tick reached."""

from __future__ import annotations

from datetime import datetime

from cgk_tasks.schedules.schedule import PLATFORM, Schedule
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements

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
        ticks = [
            tick
            for tick in fetch(connection, SQL["ticks"], {"schedule": schedule.name, "limit": 100})
            if not tick["by_hand"]
        ]
        if not ticks:
            return None, []
        values = {
            "schedule": schedule.name,
            "scheduled_for": ticks[0]["scheduled_for"],
            "for_platform": schedule.scope == PLATFORM,
        }
        return ticks[0]["scheduled_for"], fetch(connection, SQL["coverage"], values)
