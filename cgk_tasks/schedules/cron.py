"""When a schedule ticks: cron expressions in a time zone, and plain intervals.

The rules for daylight saving:

* A named local time that does not exist runs at the shift: `30 2 * * *` in Berlin runs at 03:00 that day.
* A named local time that comes twice runs once, the first time.
* An expression of every hour (`*`, `*/1`, `0-23`) names no local time: it runs in real time, whatever the clocks do.
  `*/15 * * * *` runs every 15 minutes and `0 * * * *` every hour, also through the hour that is repeated.
* Several ticks that a shift moves to one moment are one tick.

An expression is read by cronsim: five fields, names of months and days, `L`, `5#2`. If both days are restricted, either
will do, as in Debian's cron.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, InvalidOptionError

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_LONGEST_PAUSE_DAYS = 366 * 9
"""29 February may be eight years away."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY = re.compile(r"every (\d+(?:\.\d+)?) ?(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Timing(Protocol):
    """The ticks of a schedule, as moments in UTC."""

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The ticks in (after, until], in order."""
        ...

    def next(self, after: datetime) -> datetime:
        """The first tick later than `after`."""
        ...

    def previous(self, until: datetime) -> datetime | None:
        """The last tick that is not later than `until`."""
        ...


class Cron:
    """A cron expression in an IANA time zone. Raises InvalidOptionError for one that cannot be read or never ticks."""

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        try:
            self._zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidOptionError(
                "timezone", f"is {timezone!r}, which is no IANA time zone.", hint="Write it like Europe/Berlin"
            ) from None
        fields = expression.split()
        if len(fields) != 5:
            raise InvalidOptionError(
                "cron", f"is {expression!r}.", hint="Give five fields: minute hour day month weekday"
            )
        try:
            self._days = CronSim(" ".join(["0", "0", *fields[2:]]), datetime(2000, 1, 1, tzinfo=UTC))
            parsed = CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as exc:
            raise InvalidOptionError("cron", f"is {expression!r}, which cannot be read: {exc}") from None
        self._minutes = tuple(hour * 60 + minute for hour in sorted(parsed.hours) for minute in sorted(parsed.minutes))
        self._offsets = tuple(timedelta(minutes=minute) for minute in self._minutes)
        self._in_real_time = len(parsed.hours) == 24  # however they are written: *, */1, 0-23
        # The last day that was asked for: most questions are about the same one.
        self._latest: tuple[date, Sequence[datetime]] = (date.min, ())
        if self.next(datetime(2000, 1, 1, tzinfo=UTC), or_none=True) is None:
            raise InvalidOptionError("cron", f"is {expression!r}, which never comes")

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        day = after.astimezone(self._zone).date()
        last = until.astimezone(self._zone).date() + _DAY  # a clock that is put back at midnight is a day ahead
        while day <= last:
            if self._matches(day):
                ticks = self._ticks_of(day)
                yield from ticks[bisect_right(ticks, after) : bisect_right(ticks, until)]
            day += _DAY

    def next(self, after: datetime, *, or_none: bool = False) -> datetime:
        day = after.astimezone(self._zone).date()
        for _ in range(_LONGEST_PAUSE_DAYS):
            if self._matches(day):
                ticks = self._ticks_of(day)
                if ticks and ticks[-1] > after:
                    return ticks[bisect_right(ticks, after)]
            day += _DAY
        if or_none:
            return None  # type: ignore[return-value]  # only the constructor asks for it
        raise AssertionError("the constructor refuses an expression that never comes")

    def previous(self, until: datetime) -> datetime | None:
        day = until.astimezone(self._zone).date() + _DAY
        for _ in range(_LONGEST_PAUSE_DAYS):
            if self._matches(day):
                ticks = self._ticks_of(day)
                if ticks and ticks[0] <= until:
                    return ticks[bisect_right(ticks, until) - 1]
            day -= _DAY
        return None

    def _matches(self, day: date) -> bool:
        return day.month in self._days.months and self._days.match_day(day)

    def _ticks_of(self, day: date) -> Sequence[datetime]:
        """The ticks of a local day, in order; there may be none where an hour is left out."""
        if self._latest[0] != day:
            self._latest = (day, self._reckon(day))
        return self._latest[1]

    def _reckon(self, day: date) -> list[datetime]:
        begin, end = _bounds(self._zone, day)
        if end - begin == _DAY:
            return [begin + offset for offset in self._offsets]
        if self._in_real_time:
            wanted = set(self._minutes)
            return [minute for minute in _minutes(begin, end) if _minute_of_day(minute, self._zone) in wanted]
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local time
        return sorted({_instant(midnight + offset, self._zone) for offset in self._offsets})


@lru_cache(maxsize=10_000)
def _bounds(zone: ZoneInfo, day: date) -> tuple[datetime, datetime]:
    """The first moment of a local day, and that of the next."""
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local time
    return _instant(midnight, zone), _instant(midnight + _DAY, zone)


def _minutes(begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin < end:
        yield begin
        begin += _MINUTE


def _minute_of_day(moment: datetime, zone: ZoneInfo) -> int:
    local = moment.astimezone(zone)
    return local.hour * 60 + local.minute


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment of a local time: the first one if it comes twice, the shift if it does not exist."""
    moment = local.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # `moment` was reckoned with the offset from before the gap, so it lies after the shift: go back to the shift.
    offset = moment.astimezone(zone).utcoffset()
    while (earlier := moment - _MINUTE).astimezone(zone).utcoffset() == offset:
        moment = earlier
    return moment


class Every:
    """A tick every so many seconds, counted from 1970, so that it does not depend on when anything was started."""

    def __init__(self, seconds: float) -> None:
        # The clock counts in microseconds: a shorter interval would be none.
        if not 1e-6 <= seconds <= LONGEST_WAIT_SECONDS:
            raise InvalidOptionError(
                "cron",
                f"is every {seconds:g} s.",
                hint="An interval must be more than 0 seconds, and at most a hundred years",
            )
        self.period = timedelta(seconds=seconds)

    def count(self, after: datetime, until: datetime) -> int:
        """How many ticks are in (after, until]: there may be too many to go through."""
        return max(0, (until - _EPOCH) // self.period - (after - _EPOCH) // self.period)

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        tick = self.next(after)
        while tick <= until:
            yield tick
            tick += self.period

    def next(self, after: datetime) -> datetime:
        return _EPOCH + ((after - _EPOCH) // self.period + 1) * self.period

    def previous(self, until: datetime) -> datetime:
        return _EPOCH + ((until - _EPOCH) // self.period) * self.period


@lru_cache(maxsize=10_000)
def timing(cron: str, timezone: str = "UTC") -> Timing:
    """The timing of a schedule: five fields of cron, or `every 30s` (s, m, h, d). Raises InvalidOptionError."""
    interval = _EVERY.fullmatch(cron)
    if interval:
        return Every(float(interval[1]) * _SECONDS[interval[2]])
    return Cron(cron, timezone)
