"""The engine behind beat: looks which ticks are due and makes their runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

import structlog
from psycopg import errors as pg_errors

from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.schedules import periodic_tasks
from cgk_tasks.schedules.fan_out import Tick, fire
from cgk_tasks.schedules.job_events import handled_events, note_own_jobs
from cgk_tasks.schedules.reconcile import Entry, reconcile
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.schedules.tenant_ticks import fire_tenant_schedules, next_tenant_tick
from cgk_tasks.schedules.ticks import due
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit, execute, statements

SQL = statements("schedules")
log = structlog.get_logger("cgk_tasks.schedules")

_HOUSEKEEPING_SECONDS = 3600.0


class Engine:
    """Makes every due tick of SCHEDULES and of the tenants' own schedules, when the leading beat or a call over HTTP
    says so.
    """

    def __init__(self, schedules: Mapping[str, Schedule], clock: Callable[[], datetime] = database_now) -> None:
        self._schedules = schedules
        self._clock = clock
        self._entries: list[Entry] = []
        self._a_tick_failed = False
        self.made: list[Tick] = []
        """The ticks of SCHEDULES that the last look made."""
        self._housekeeping_at: datetime | None = None
        self._without_jobs: frozenset[str] = frozenset()

    @property
    def has_failed(self) -> bool:
        """Whether a schedule could not tick at the last look. It is tried again at the next."""
        return self._a_tick_failed

    def reload(self) -> None:
        """Seed the table's entries and read what operators changed."""
        note_own_jobs()
        self._entries = reconcile(self._schedules, self._clock())

    def tick(self) -> float:
        """Make what is due. Returns the seconds until something is due next, at most an hour."""
        now = self._clock()
        self._a_tick_failed, self.made = False, []
        handled = self._handled_events()
        self._entries = [
            self._tick_entry(entry, now, handled) if entry.is_enabled else entry for entry in self._entries
        ]
        fire_tenant_schedules(now, handled)
        if self._housekeeping_at is None or (now - self._housekeeping_at).total_seconds() > _HOUSEKEEPING_SECONDS:
            self._housekeeping_at = now
            with autocommit() as connection:
                execute(connection, SQL["forget_ticks"], {"days": get_settings().history_days})
        return self._seconds_until_next()

    def _tick_entry(self, entry: Entry, now: datetime, handled: Collection[str]) -> Entry:
        schedule = entry.schedule
        found = due(schedule.timing, entry.done_until, now, schedule.misfire, schedule.max_age)
        if not found.ticks and not found.given_up:
            return entry
        if schedule.event not in handled:
            return _pass_over(entry, now)
        given_up = found.given_up
        try:
            for scheduled_for in found.ticks:
                tick = fire(schedule, scheduled_for, now=now, given_up=given_up)
                if tick.is_new:
                    self.made.append(tick)
                given_up = 0
                periodic_tasks.note_fired(schedule.name, scheduled_for)
        except (CgkTasksError, pg_errors.LockNotAvailable) as exc:
            # One schedule that cannot tick must not hold up the others; it is tried again, and shows as late.
            log.warning("schedule_cannot_tick", schedule=schedule.name, reason=str(exc))
            self._a_tick_failed = True
            return entry
        if not found.ticks:
            log.warning("ticks_given_up", schedule=schedule.name, ticks=found.given_up)
            return _pass_over(entry, now)
        return replace(entry, done_until=found.ticks[-1])

    def _handled_events(self) -> frozenset[str]:
        """Read anew for each look: a worker that starts with a new job is heard of at once."""
        handled = handled_events()
        without = frozenset(name for name, one in self._schedules.items() if one.event not in handled)
        if without != self._without_jobs:
            self._without_jobs = without
            log.info("schedules_without_jobs", left_out=len(without), of=len(self._schedules))
        return handled

    def _seconds_until_next(self) -> float:
        ticks = [entry.schedule.timing.next(entry.done_until) for entry in self._entries if entry.is_enabled]
        tenants_next = next_tenant_tick()
        if tenants_next is not None:
            ticks.append(tenants_next)
        # From a fresh look at the clock: making the runs took time.
        pause = min(((tick - self._clock()).total_seconds() for tick in ticks), default=3600.0)
        return min(max(pause, 1.0 if self._a_tick_failed else 0.0), 3600.0)


def _pass_over(entry: Entry, until: datetime) -> Entry:
    """Nothing is made of the ticks until then, now or later; on record, so that they are not late."""
    with autocommit() as connection:
        execute(connection, SQL["done_until"], {"schedule": entry.schedule.name, "until": until})
    return replace(entry, done_until=until)
