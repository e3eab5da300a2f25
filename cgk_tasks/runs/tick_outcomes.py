"""What became of the runs of schedules' ticks: counted by the leader, so that pages need not count runs.

A tick is counted within half a minute, then again and again, after longer and longer pauses, until all of its runs are
closed: what is closed stays as it is. The counts are kept with the tick, so a page reads a row for each, however many
runs there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cgk_tasks.sql.postgres import autocommit, fetch, fetch_or_before, short_transaction, statements

SQL = statements("tick_outcomes")

_TICKS_AT_ONCE: Final = 500
_RUNS_AT_ONCE: Final = 50_000
"""About so many ticks, with so many runs together, are counted in one statement."""
_AGAIN_SECONDS: Final = 30.0
_AGAIN_PART: Final = 0.2
"""After this part of its age a tick with open runs is counted again."""


@dataclass(frozen=True, slots=True)
class TickOutcome:
    """A tick, and what became of its runs as of `counted_at`; the four are None before anybody has counted.

    otherwise: cancelled, expired or unhandled. given_up: missed ticks that this one stands for.
    """

    scheduled_for: datetime
    fired_at: datetime
    by_hand: bool
    runs: int
    suspended: int
    switched_off: int
    overlapping: int
    given_up: int
    open: int | None
    completed: int | None
    failed: int | None
    otherwise: int | None
    counted_at: datetime | None

    @property
    def left_out(self) -> int:
        """How many tenants got no run."""
        return self.suspended + self.switched_off + self.overlapping

    @property
    def is_counted(self) -> bool:
        """Whether it is known what became of its runs."""
        return self.counted_at is not None or not self.runs

    @property
    def state(self) -> str:
        """The worst of it: `failed`, `open`, `otherwise`; `missed` where runs were not made that the clock wanted;
        `completed`, or `nobody` for a tick without runs. That a tenant is suspended or has switched it off is no miss.
        """
        if self.failed:
            return "failed"
        if self.open or not self.is_counted:
            return "open"
        if self.otherwise:
            return "otherwise"
        if self.overlapping or self.given_up:
            return "missed"
        return "completed" if self.runs else "nobody"


def count_outcomes() -> int:
    """Count what is due. Returns how many ticks that were: 0 when nothing is left to be done. Raises psycopg.Error."""
    values = {"ticks": _TICKS_AT_ONCE, "most": _RUNS_AT_ONCE, "again": _AGAIN_SECONDS, "part": _AGAIN_PART}
    with short_transaction(60) as connection:
        return len(fetch(connection, SQL["count"], values))


def last_outcomes(schedules: list[str], limit: int) -> dict[str, list[TickOutcome]]:
    """The last ticks of each schedule that has any, the oldest of them first. One question, for however many."""
    values = {"schedules": schedules, "limit": limit}
    with autocommit() as connection:
        rows = fetch_or_before(connection, SQL["last"], SQL["last_before"], values)
    found: dict[str, list[TickOutcome]] = {}
    for row in sorted(rows, key=lambda row: row["scheduled_for"]):
        found.setdefault(row.pop("schedule"), []).append(TickOutcome(**row))
    return found
