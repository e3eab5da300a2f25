"""The entries of SCHEDULES as they are in force, for the pages that list them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cgk_tasks.runs.tick_outcomes import TickOutcome, last_outcomes
from cgk_tasks.schedules.fan_out import with_timing
from cgk_tasks.schedules.health import late_schedules
from cgk_tasks.schedules.history import known_schedules
from cgk_tasks.schedules.job_events import handled_events
from cgk_tasks.schedules.lookup import all_schedules
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.sql.postgres import Row

STRIP = 20
"""So many of the last ticks are shown with what became of them."""


@dataclass(frozen=True, slots=True)
class ListedSchedule:
    """An entry of SCHEDULES as it is in force: an operator may have changed its times."""

    schedule: Schedule
    is_enabled: bool
    is_overridden: bool
    has_job: bool
    late_seconds: float | None
    last: Row | None
    next_tick: datetime | None


def listed_schedules() -> list[ListedSchedule]:
    """Every entry; its next tick is None while it is paused or has no job."""
    known, handled = known_schedules(), handled_events()
    late = {one.name: one.seconds_late for one in late_schedules()}
    return [
        _listed(one, known.get(one.name), late.get(one.name), has_job=one.event in handled)
        for one in all_schedules().values()
    ]


def _listed(schedule: Schedule, known: Row | None, late_seconds: float | None, *, has_job: bool) -> ListedSchedule:
    in_force = with_timing(schedule, known["cron"], known["timezone"]) if known else schedule
    is_enabled = known is None or known["is_enabled"]
    is_overridden = known is not None and known["is_overridden"]
    last = known if known and known["last_tick"] else None
    following = in_force.timing.next(datetime.now(UTC)) if is_enabled and has_job else None
    return ListedSchedule(in_force, is_enabled, is_overridden, has_job, late_seconds, last, following)


@dataclass(frozen=True, slots=True)
class Strip:
    """What became of the last ticks of an entry, the oldest first. said: the same in words."""

    ticks: tuple[TickOutcome, ...]
    said: str


def strips(names: list[str]) -> dict[str, Strip]:
    """Of these entries, as far as they have ticked."""
    return {name: Strip(tuple(ticks), _said(ticks)) for name, ticks in last_outcomes(names, STRIP).items()}


_WORDS = {
    "failed": "with failed runs", "open": "with open runs", "otherwise": "with runs that were cancelled or expired",
    "missed": "with missed runs", "completed": "completed", "nobody": "without runs",
}  # fmt: skip


def _said(ticks: list[TickOutcome]) -> str:
    counts = {state: sum(tick.state == state for tick in ticks) for state in _WORDS}
    parts = [f"{number} {_WORDS[state]}" for state, number in counts.items() if number]
    return f"Last {len(ticks)} ticks: {', '.join(parts)}. The last one: {tick_in_words(ticks[-1])}"


def tick_in_words(tick: TickOutcome) -> str:
    """A tick's runs, and who got none: `98 completed, 2 failed, 1 tenant left out`."""
    if not tick.is_counted:
        parts = [f"{tick.runs:,} runs, not counted yet"]
    else:
        named = (
            ("completed", tick.completed),
            ("failed", tick.failed),
            ("open", tick.open),
            ("ended otherwise", tick.otherwise),
        )
        parts = [f"{number:,} {word}" for word, number in named if number] or ["no runs"]
    if tick.left_out:
        parts.append(f"{tick.left_out:,} {'tenant' if tick.left_out == 1 else 'tenants'} left out")
    if tick.given_up:
        parts.append(f"{tick.given_up:,} earlier {'tick' if tick.given_up == 1 else 'ticks'} missed")
    return ", ".join(parts)
