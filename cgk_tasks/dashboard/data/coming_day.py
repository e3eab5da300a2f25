"""What the schedules will do in the coming day: by entry and by hour, as a picture and for tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cgk_tasks.dashboard.day_chart import Hour, Line, Span, day
from cgk_tasks.schedules.coming import HOUR, HOURS, Coming, coming
from cgk_tasks.schedules.reach import tenants_reached

if TYPE_CHECKING:
    from cgk_tasks.dashboard.data.listed_schedules import ListedSchedule

_NAMED_TIMES: Final = 8
_BUSY: Final = 3
"""So many hours are called busy, at most."""
_ORDER: Final = ("active", "paused", "no job")


@dataclass(frozen=True, slots=True)
class DayEntry:
    """An entry in its day. state: `active`, `paused` or `no job`; of the last two, these are the ticks that would be.

    reached: how many tenants a tick is for. times: when it ticks, in words.
    """

    name: str
    state: str
    coming: Coming
    reached: int
    times: str

    @property
    def runs(self) -> int:
        """How many runs its ticks make at most; none while it does not tick."""
        return self.coming.ticks * self.reached if self.state == "active" else 0


@dataclass(frozen=True, slots=True)
class Day:
    """From `begin` on for 24 hours, without what was before `now`. entries: active ones first, by their first tick."""

    now: datetime
    begin: datetime
    entries: tuple[DayEntry, ...]
    hours: tuple[Hour, ...]

    @property
    def end(self) -> datetime:
        return self.begin + HOURS * HOUR

    @property
    def ticks(self) -> int:
        return sum(hour.ticks for hour in self.hours)

    @property
    def runs(self) -> int:
        return sum(hour.runs for hour in self.hours)

    def picture(self, link: Callable[[str], str]) -> str:
        """SVG. link: the address of an entry, by its name."""
        described = (
            f"{len(self.entries)} entries, {self.ticks:,} ticks that make up to {self.runs:,} runs from"
            f" {self.now:%H:%M} to {self.end:%H:%M} UTC. Each line is a link to its entry."
            " The tables below have the same."
        )
        lines = [_line(entry, link(entry.name)) for entry in self.entries]
        return day(self.hours, lines, title="The coming day", description=described)


def coming_day(schedules: Sequence[ListedSchedule], now: datetime | None = None) -> Day:
    """The next 24 hours, from the beginning of the hour on, in UTC."""
    now = (now or datetime.now(UTC)).astimezone(UTC)
    begin = now.replace(minute=0, second=0, microsecond=0)
    reached = tenants_reached(one.schedule for one in schedules)
    entries = [_entry(one, reached[one.schedule.name], now, begin) for one in schedules]
    entries.sort(key=lambda entry: (_ORDER.index(entry.state), _first(entry, begin), entry.name))
    return Day(now, begin, tuple(entries), tuple(_hours(entries, begin)))


def _first(entry: DayEntry, begin: datetime) -> datetime:
    return entry.coming.stretches[0].first if entry.coming.stretches else begin + HOURS * HOUR


def _entry(one: ListedSchedule, reached: int, now: datetime, begin: datetime) -> DayEntry:
    state = "paused" if not one.is_enabled else "active" if one.has_job else "no job"
    found = coming(one.schedule.timing, now, begin)
    return DayEntry(one.schedule.name, state, found, reached, _times(found))


def _times(found: Coming) -> str:
    """When it ticks: each time, or from when to when how often."""
    parts = [
        f"{one.first:%H:%M}" if one.ticks == 1 else f"{one.first:%H:%M} to {one.last:%H:%M} {one.ticks:,} times"
        for one in found.stretches[:_NAMED_TIMES]
    ]
    more = len(found.stretches) - _NAMED_TIMES
    return ", ".join(parts) + (f" and {more} more until {found.stretches[-1].last:%H:%M}" if more > 0 else "")


def _hours(entries: Sequence[DayEntry], begin: datetime) -> Iterator[Hour]:
    ticking = [entry for entry in entries if entry.state == "active"]
    ticks = [sum(entry.coming.by_hour[nth] for entry in ticking) for nth in range(HOURS)]
    runs = [sum(entry.coming.by_hour[nth] * entry.reached for entry in ticking) for nth in range(HOURS)]
    # More than the average, or a day that is the same all the time would have busy hours.
    busiest = sorted((nth for nth in range(HOURS) if runs[nth] * HOURS > sum(runs)), key=lambda nth: -runs[nth])[:_BUSY]
    for nth in range(HOURS):
        yield Hour(begin + HOUR * nth, ticks[nth], runs[nth], nth in busiest)


def _line(entry: DayEntry, link: str) -> Line:
    ticks = entry.coming.ticks
    said = f"{entry.name}: {'no tick' if not ticks else '1 tick' if ticks == 1 else f'{ticks:,} ticks'}"
    said += f", for {entry.reached:,} {'tenant' if entry.reached == 1 else 'tenants'} each" if ticks else ""
    said += (
        ""
        if entry.state == "active"
        else f" if it were not {entry.state}"
        if entry.state == "paused"
        else " if it had a job"
    )
    spans = tuple(
        Span(one.first, one.last, "" if one.ticks == 1 else f"{one.ticks:,} ticks") for one in entry.coming.stretches
    )
    return Line(entry.name, f"{said}. {entry.times}".rstrip(), link, entry.state, spans)
