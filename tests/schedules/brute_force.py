"""A clock that is looked at every minute, and what cron should do at each look: slow, simple, and independent."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
QUARTER = [timedelta(minutes=minute) for minute in range(15)]
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def values(field, low, high):
    """The numbers that a field stands for."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            begin, end = low, high
        elif "-" in span:
            begin, end = map(int, span.split("-"))
        else:
            begin, end = int(span), high if step else int(span)
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


class Expression:
    """The fields of an expression as sets, and whether a day is in them."""

    def __init__(self, text):
        fields = text.split()
        self.minutes, self.hours, self.days, self.months, weekdays = (
            values(field, *bounds) for field, bounds in zip(fields, RANGES, strict=True)
        )
        self.weekdays = {day % 7 for day in weekdays}
        self.either_day = not fields[2].startswith("*") and not fields[4].startswith("*")
        self.in_real_time = len(self.hours) == 24

    def is_day(self, local):
        if local.month not in self.months:
            return False
        by_date, by_weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either_day else by_date and by_weekday


def looks(zone, begin, end):
    """For every minute: the moment, the local time it shows, and the local times that it newly covers.

    Those are none when the clock was put back, and several when it was put forward: what was left out, then the time.
    The zone is asked every quarter of an hour, at which all the clocks in these tests are put forward or back.
    """
    zone = ZoneInfo(zone)
    newest = begin.astimezone(zone).replace(tzinfo=None) - MINUTE
    moment = begin
    while moment < end:
        quarter = moment.astimezone(zone).replace(tzinfo=None)
        for offset in QUARTER:
            local = quarter + offset
            newly = []
            while newest < local:
                newest += MINUTE
                newly.append(newest)
            yield moment + offset, local, newly
        moment += timedelta(minutes=15)


def ticks_of_all(crons, zone, begin, end):
    """The ticks in [begin, end) of each expression, in one pass over the clock."""
    expressions = {cron: Expression(cron) for cron in crons}
    real_time, named = defaultdict(list), defaultdict(list)
    for cron, expression in expressions.items():
        for hour, minute in product(expression.hours, expression.minutes):
            (real_time if expression.in_real_time else named)[hour * 60 + minute].append(cron)
    found = {cron: [] for cron in crons}
    for moment, local, newly in looks(zone, begin, end):
        now_due = {cron for cron in real_time[local.hour * 60 + local.minute] if expressions[cron].is_day(local)}
        for time in newly:
            now_due |= {cron for cron in named[time.hour * 60 + time.minute] if expressions[cron].is_day(time)}
        for cron in now_due:
            found[cron].append(moment)
    return found


def ticks(cron, zone, begin, end):
    """The ticks in [begin, end)."""
    return ticks_of_all([cron], zone, begin, end)[cron]


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)
