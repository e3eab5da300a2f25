"""Bringing SCHEDULES, django-celery-beat's rows and what beat knows into step; safe to repeat.

What the table says is written to the rows. What an operator changed there since (times, enabled) is recognised, because
`cgk.schedules` remembers what was written last, and is kept. An entry that left the table is switched off, not deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.schedules import periodic_tasks
from cgk_tasks.schedules.cron import timing
from cgk_tasks.schedules.periodic_tasks import Stored
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements

SQL = statements("schedules")
log = structlog.get_logger("cgk_tasks.schedules")


@dataclass(frozen=True, slots=True)
class Entry:
    """A schedule as it is in force: with an operator's times, if there are any."""

    schedule: Schedule
    is_enabled: bool
    done_until: datetime


def reconcile(schedules: Mapping[str, Schedule], now: datetime) -> list[Entry]:
    """Seed, adopt operators' changes, and return what is in force. Ticks count from `now` for whatever is new."""
    with autocommit() as connection:
        known = {row["name"]: row for row in fetch(connection, SQL["list_schedules"])}
    stored = periodic_tasks.stored_entries({*schedules, *known})
    entries = []
    for schedule in schedules.values():
        row = _in_force(schedule, known.get(schedule.name), stored.get(schedule.name), now)
        _save(known.get(schedule.name), row)
        in_force = replace(schedule, cron=row["cron"], timezone=row["timezone"])
        entries.append(Entry(in_force, row["is_enabled"], row["done_until"]))
    for name in known.keys() - schedules.keys():
        if known[name]["is_listed"]:
            _retire(known[name], stored.get(name))
    return entries


def _in_force(schedule: Schedule, known: Row | None, stored: Stored | None, now: datetime) -> Row:
    """The row of `cgk.schedules`, after writing to django-celery-beat what the table changed."""
    times, enabled, is_operators = _wanted(schedule, known, stored)
    table_times = periodic_tasks.canonical(schedule.cron, schedule.timezone)
    if stored is None or (not is_operators and (stored.cron, stored.timezone) != times) or stored.enabled != enabled:
        periodic_tasks.store_entry(schedule, enabled=enabled, with_times=stored is None or not is_operators)
    begins_anew = known is None or (known["cron"], known["timezone"]) != times or (enabled and not known["is_enabled"])
    return {
        "name": schedule.name,
        "event": schedule.event,
        "cron": times[0],
        "timezone": times[1],
        "is_enabled": enabled,
        "is_listed": True,
        "seeded_cron": table_times[0],
        "seeded_timezone": table_times[1],
        "seeded_enabled": True,
        # Ticks from before a schedule began, changed or was resumed are not missed ones.
        "done_until": now if known is None or begins_anew else known["done_until"],
    }


def _wanted(schedule: Schedule, known: Row | None, stored: Stored | None) -> tuple[tuple[str, str], bool, bool]:
    """Times and enabled as they should be, and whether the times are an operator's."""
    table_times = periodic_tasks.canonical(schedule.cron, schedule.timezone)
    if stored is None:
        return table_times, True, False
    if known is None:
        # Somebody made the row before beat ever ran: it counts as theirs.
        seeded, enabled = table_times, stored.enabled
    else:
        seeded = (known["seeded_cron"], known["seeded_timezone"])
        enabled = stored.enabled if stored.enabled != known["seeded_enabled"] else True
    times = (stored.cron, stored.timezone)
    if stored.cron is None or times == seeded:
        return table_times, enabled, False
    try:
        timing(stored.cron, stored.timezone)
    except InvalidOptionError as exc:
        log.warning("schedule_unreadable", schedule=schedule.name, reason=str(exc), hint="The table's times are used.")
        return table_times, enabled, True
    return (stored.cron, stored.timezone), enabled, True


def _retire(known: Row, stored: Stored | None) -> None:
    if stored is not None and stored.enabled:
        periodic_tasks.set_enabled(known["name"], enabled=False)
    log.info("schedule_retired", schedule=known["name"], hint="It is no longer in SCHEDULES.")
    # Only what we switched off ourselves is switched on again, should the entry come back.
    seeded_enabled = False if stored is None or stored.enabled else known["seeded_enabled"]
    _save(known, {**known, "is_listed": False, "is_enabled": False, "seeded_enabled": seeded_enabled})


_COLUMNS = (
    "name", "event", "cron", "timezone", "is_enabled", "is_listed", "seeded_cron", "seeded_timezone", "seeded_enabled",
    "done_until",
)  # fmt: skip


def _save(known: Row | None, row: Mapping[str, Any]) -> None:
    if known is None or any(known[name] != row[name] for name in _COLUMNS):
        with autocommit() as connection:
            execute(connection, SQL["save_schedule"], {name: row[name] for name in _COLUMNS})
