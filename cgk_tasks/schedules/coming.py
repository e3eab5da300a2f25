"""The coming day of a schedule: its ticks, drawn together where they are close, and how many each hour has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cgk_tasks.schedules.cron import Every, Timing

HOURS: Final = 24
HOUR: Final = timedelta(hours=1)

CLOSE: Final = timedelta(minutes=10)
"""Ticks that are not further apart are one stretch."""

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Ticks from `first` to `last`, none of them further from the next than CLOSE. A lone tick is a stretch of one."""

    first: datetime
    last: datetime
    ticks: int


@dataclass(frozen=True, slots=True)
class Coming:
    """by_hour: how many ticks are in each hour of the day, the first one's included where it has begun."""

    stretches: tuple[Stretch, ...]
    by_hour: tuple[int, ...]

    @property
    def ticks(self) -> int:
        return sum(self.by_hour)


def coming(timing: Timing, after: datetime, begin: datetime) -> Coming:
    """The ticks later than `after` in the 24 hours from `begin` on, whatever clocks on the wall do meanwhile.

    What ticks too often to go through is counted without that.
    """
    begins = [begin + HOUR * nth for nth in range(HOURS + 1)]
    last_moment = begins[-1] - _MOMENT
    if isinstance(timing, Every) and timing.period < CLOSE:
        since = max(after, begin - _MOMENT)
        by_hour = tuple(
            timing.count(max(since, hour - _MOMENT), max(since, hour + HOUR - _MOMENT)) for hour in begins[:-1]
        )
        ticks = sum(by_hour)
        return Coming((Stretch(timing.next(since), timing.previous(last_moment), ticks),) if ticks else (), by_hour)
    ticks_of_day = list(timing.ticks(max(after, begin - _MOMENT), last_moment))
    counts = [0] * HOURS
    for tick in ticks_of_day:
        counts[(tick - begin) // HOUR] += 1
    return Coming(stretches(ticks_of_day), tuple(counts))


def stretches(ticks: Iterable[datetime]) -> tuple[Stretch, ...]:
    """Ticks, in order, as stretches."""
    found: list[Stretch] = []
    for tick in ticks:
        before = found[-1] if found else None
        if before is not None and tick - before.last <= CLOSE:
            found[-1] = Stretch(before.first, tick, before.ticks + 1)
        else:
            found.append(Stretch(tick, tick, 1))
    return tuple(found)
