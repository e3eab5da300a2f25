"""The dead man's switch: which schedules should have ticked and did not. Needs neither beat nor Django."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.schedules.cron import timing
from cgk_tasks.schedules.job_events import handled_events
from cgk_tasks.schedules.leadership import LEASE
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit, fetch, statements

SQL = statements("schedules")


@dataclass(frozen=True, slots=True)
class LateSchedule:
    """A schedule whose tick did not start in time. `expected_at`: the last tick that should have been."""

    name: str
    expected_at: datetime
    seconds_late: float


def late_schedules(tolerance_seconds: float = 120.0, *, now: datetime | None = None) -> list[LateSchedule]:
    """The enabled schedules whose last due tick was neither made nor given up, `tolerance_seconds` after its time.

    Schedules without a job do not tick, and are never late. Empty while all is well, and where no beat has ever run.
    With it: beat is down, or cannot make the tick.
    """
    now = now or database_now()
    limit = now - timedelta(seconds=tolerance_seconds)
    handled = handled_events()
    with autocommit() as connection:
        rows = fetch(connection, SQL["list_schedules"])
        tenants_next = fetch(connection, SQL["next_tenant_schedule"], {"events": sorted(handled)})[0]["next_at"]
    late = []
    for row in rows:
        if not row["is_enabled"] or row["event"] not in handled:
            continue
        try:
            expected = timing(row["cron"], row["timezone"]).previous(limit)
        except InvalidOptionError:
            expected = row["done_until"]  # a time zone that this machine does not know
        if expected is not None and expected > row["done_until"]:
            late.append(LateSchedule(row["name"], expected, (now - expected).total_seconds()))
    if tenants_next is not None and tenants_next <= limit:
        late.append(LateSchedule("schedules of tenants", tenants_next, (now - tenants_next).total_seconds()))
    return late


def leading_beat() -> str | None:
    """The id of the beat that leads now, or None."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["leader"], {"name": LEASE})
    return rows[0]["holder"] if rows and rows[0]["seconds_left"] > 0 else None
