"""When a run is expected to start: from what comes before it, how long that takes, and how much of it is done at once.

It is an estimate. It knows what runs have taken, and not what these will take; nor what is sent meanwhile by tenants
whose turn comes earlier, which processes are busy with something long, and what fails and is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cgk_tasks.config import get_settings
from cgk_tasks.errors import LONGEST_WAIT_SECONDS
from cgk_tasks.monitoring.why_gates import COUNT_TO
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL = statements("why")


def start_of_held(connection: Connection, facts: Row, lane: Row) -> datetime | None:
    """When a run of a lane is expected to start; None if that is not known."""
    settings = get_settings()
    before = {"id": facts["id"], "step": settings.priority_step_seconds, "limit": COUNT_TO + 1}
    work = fetch(connection, SQL["work_ahead"], before)
    pace = _pace(connection, facts, lane["waits_at"])
    seconds = _seconds(lane, _of(work), pace)
    if seconds is None:
        return None
    opens_at = lane["opens_at"] if lane["status"] == "closed" else None
    guard = lane.get("guard")
    if guard is not None and guard.state == "closed":
        if guard.opens_at is None:
            return None
        opens_at = guard.opens_at
    begins = max(facts["now"], opens_at or facts["now"])
    return _after(begins, seconds)


def start_of_dispatched(connection: Connection, facts: Row, ahead: Sequence[Row]) -> datetime | None:
    """The same of a run that waits in the broker."""
    pace = _pace(connection, facts, None)
    work = _of(ahead)
    if not pace["processes"] or work is None:
        return None
    return _after(facts["now"], work.seconds / pace["processes"])


class _Work(NamedTuple):
    """How many runs come before, and how long they take in all."""

    runs: int
    seconds: float


def _of(rows: Sequence[Row]) -> _Work | None:
    """None where nobody has measured what an event takes, or there are more than were counted."""
    runs = sum(row["runs"] for row in rows)
    if runs > COUNT_TO or any(row["mean_seconds"] is None for row in rows):
        return None
    return _Work(runs, sum(row["runs"] * row["mean_seconds"] for row in rows))


def _pace(connection: Connection, facts: Row, waits_at: int | None) -> Row:
    values: dict[str, Any] = {
        "event": facts["event"], "queue": facts["queue"], "tenant_id": facts["tenant_id"], "waits_at": waits_at,
        "timeout": get_settings().worker_timeout_seconds, "limit": COUNT_TO,
    }  # fmt: skip
    return fetch(connection, SQL["pace"], values)[0]


def _seconds(lane: Row, work: _Work | None, pace: Row) -> float | None:
    """How long until its turn, once its gate is open."""
    if not pace["processes"]:
        return None
    if lane["rate"] is not None and lane.get("guard") is None:
        # A bucket: exact for a tenant that has it alone, whatever its runs take.
        ahead = lane["ahead"] if work is None else work.runs
        share = pace["share"] or 1.0
        return None if ahead > COUNT_TO else float(ahead * lane["period"] / lane["rate"] / share)
    if work is None:
        return None
    if lane["waits_at"] is None:  # nothing limits it: its tenant's share of all processes
        share = lane["share"] or 1.0
        return float(work.seconds / (pace["processes"] * share))
    if pace["mean_seconds"] is None:
        return None
    guard = lane.get("guard")
    at_once = lane["at_once"] if guard is None else guard.limit
    places = min(pace["processes"], at_once or pace["processes"]) * (pace["share"] or 1.0)
    held_now = pace["mean_seconds"] if lane["status"] == "full" else 0.0  # somebody has to end first
    return float((work.seconds + held_now) / places)


def _after(moment: datetime, seconds: float) -> datetime | None:
    return None if seconds > LONGEST_WAIT_SECONDS else moment + timedelta(seconds=seconds)
