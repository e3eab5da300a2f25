"""The entries of SCHEDULES as rows of django-celery-beat, where operators see and change them.

Imports Django's models: only for processes that have called `set_up_django()`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.db import OperationalError
from django.db.models import F, Model
from django.utils.timezone import get_default_timezone, make_naive
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from cgk_tasks.schedules.schedule import Schedule

log = structlog.get_logger("cgk_tasks.schedules")

_MICROSECONDS = {
    "days": 86_400_000_000,
    "hours": 3_600_000_000,
    "minutes": 60_000_000,
    "seconds": 1_000_000,
    "microseconds": 1,
}
_MOST_SAVES = 10
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it stands in the database. cron: None for a kind of time that entries cannot have."""

    cron: str | None
    timezone: str
    enabled: bool


def stored_entries(names: Iterable[str]) -> dict[str, Stored]:
    """The rows with these names."""
    rows = PeriodicTask.objects.filter(name__in=list(names)).select_related("crontab", "interval")
    return {row.name: _stored(row) for row in rows}


def _stored(row: PeriodicTask) -> Stored:
    if row.crontab is not None:
        times = row.crontab
        fields = (times.minute, times.hour, times.day_of_month, times.month_of_year, times.day_of_week)
        return Stored(" ".join(field.replace(" ", "") for field in fields), str(times.timezone), row.enabled)
    if row.interval is not None:
        seconds = row.interval.every * _MICROSECONDS[row.interval.period] / 1_000_000
        return Stored(f"every {seconds:g}s", "UTC", row.enabled)
    return Stored(None, "UTC", row.enabled)


def canonical(cron: str, timezone: str) -> tuple[str, str]:
    """A schedule's times as `stored_entries` writes them, so that the two can be compared."""
    if cron.startswith("every "):
        interval = _interval(cron)
        return f"every {interval.every * _MICROSECONDS[interval.period] / 1_000_000:g}s", "UTC"
    return " ".join(cron.split()), timezone


def store_entry(schedule: Schedule, *, enabled: bool, with_times: bool) -> None:
    """Write an entry's row, or make it. with_times: False leaves the times that are there."""
    row = PeriodicTask.objects.filter(name=schedule.name).first() or PeriodicTask(name=schedule.name)
    row.task = schedule.event
    row.kwargs = json.dumps(dict(schedule.payload))
    row.enabled = enabled
    row.description = (
        f"An entry of SCHEDULES, for {schedule.scope}. Crontab and Enabled can be changed here; event and payload "
        "are those of the code."
    )
    if with_times:
        row.crontab = row.interval = row.solar = row.clocked = None
        if schedule.cron.startswith("every "):
            row.interval = _saved(_interval(schedule.cron))
        else:
            row.crontab = _saved(_crontab(schedule.cron, schedule.timezone))
    _save(row)


def set_enabled(name: str, *, enabled: bool) -> bool:
    """Switch a row on or off. Returns whether there is one. Beat notices within seconds."""
    row = PeriodicTask.objects.filter(name=name).first()
    if row is None:
        return False
    if row.enabled != enabled:
        row.enabled = enabled
        _save(row)
    return True


def note_fired(name: str, scheduled_for: datetime) -> None:
    """Show the last tick in the admin; without telling beat that the row has changed."""
    if not settings.USE_TZ:  # an application's Django project that keeps its local time
        scheduled_for = make_naive(scheduled_for, get_default_timezone())
    PeriodicTask.objects.filter(name=name).update(last_run_at=scheduled_for, total_run_count=F("total_run_count") + 1)


def _interval(cron: str) -> IntervalSchedule:
    text = cron.removeprefix("every ").replace(" ", "")
    amount, unit = float(text[:-1]), _UNITS[text[-1]]
    if amount.is_integer():
        return IntervalSchedule(every=int(amount), period=unit)
    return IntervalSchedule(every=round(amount * _MICROSECONDS[unit]), period="microseconds")


def _crontab(cron: str, timezone: str) -> CrontabSchedule:
    minute, hour, day, month, weekday = cron.split()
    return CrontabSchedule(
        minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday, timezone=timezone
    )


def _saved(wanted: CrontabSchedule | IntervalSchedule) -> CrontabSchedule | IntervalSchedule:
    """The row for these times: one that is there already, or a new one."""
    fields = {field.name: getattr(wanted, field.name) for field in wanted._meta.fields if not field.primary_key}  # noqa: SLF001
    known = type(wanted).objects.filter(**fields).first()
    if known is not None:
        return known
    _save(wanted)
    return wanted


def _save(row: Model) -> None:
    """Save a row, again if the database gave way to another writer. SQLite does so at once when a transaction writes
    that read something before another one's commit.
    """
    for _ in range(_MOST_SAVES - 1):
        try:
            row.save()
            return
        except OperationalError:
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - no secret
    row.save()
