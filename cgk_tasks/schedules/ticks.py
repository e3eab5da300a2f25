"""Which ticks are due, and what becomes of those that were missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from cgk_tasks.schedules.cron import Timing
from cgk_tasks.schedules.schedule import Misfire

ON_TIME = timedelta(seconds=60)
"""A tick that is no older was not missed, only made a little late: a restart or a change of leader takes less."""

_MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Due:
    """`ticks` are to be made, in order; `given_up`: how many are not, by the misfire policy."""

    ticks: tuple[datetime, ...]
    given_up: int


def due(timing: Timing, done_until: datetime, now: datetime, misfire: Misfire, max_age_seconds: float) -> Due:
    """The ticks in (done_until, now] that are to be made.

    Those of the last minute always are. Of older ones: none (`skip`), the last unless a newer tick is made anyway
    (`once`), or each that is at most `max_age_seconds` old (`all`).
    """
    if timing.next(done_until) > now:
        return Due((), 0)
    on_time_after = max(done_until, now - ON_TIME)
    on_time = tuple(timing.ticks(on_time_after, now))
    missed: tuple[datetime, ...] = ()
    if misfire == "once" and not on_time:
        last = timing.previous(now)
        missed = (last,) if last is not None else ()
    elif misfire == "all":
        missed = tuple(timing.ticks(max(done_until, now - timedelta(seconds=max_age_seconds)), on_time_after))
    all_missed = sum(1 for _ in islice(timing.ticks(done_until, on_time_after), _MOST_COUNTED))
    return Due(missed + on_time, max(0, all_missed - len(missed)))


def is_late(tick: datetime, now: datetime) -> bool:
    """Whether a tick was missed rather than made a little late."""
    return now - tick > ON_TIME
