"""How many runs each tenant sent and closed, by minutes, hours and days, and how those of each event and job went: what
the dashboard draws.

Nothing is counted while runs run. The leader counts the last minutes out of the record, again and again, until no
transaction is open any more that could add to them; then they are added to their hour and day, once. So a page reads
some hundred rows, however many runs there are. What tenants used, for bills, is in `runs/usage.py`.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import structlog

from cgk_tasks.runs.depths import note_depths
from cgk_tasks.runs.models import first_run_id
from cgk_tasks.runs.tick_outcomes import count_outcomes
from cgk_tasks.sql.postgres import Connection, Row, execute, fetch, is_not_migrated, short_transaction, statements

SQL = statements("counts")
log = structlog.get_logger("cgk_tasks.history")

MINUTES_KEPT: Final = timedelta(hours=48)
MINUTES_OF_WORK_KEPT: Final = timedelta(hours=3)
"""Of each event and job: their hours are enough for a day."""
HOURS_OF_WORK_KEPT: Final = timedelta(days=9)
"""What is longer ago is not counted by event and job: the pages show a week."""

_MINUTE: Final = timedelta(minutes=1)
_AT_ONCE: Final = timedelta(hours=1)
"""So much is counted in one transaction, where much is to be counted."""
_RECOUNTED: Final = timedelta(minutes=10)
"""So much is counted again while a transaction is open that may add to it."""
_GRACE: Final = timedelta(seconds=30)
"""Between the time in a run's id and its insertion, and between the time when a run closed and its commit's."""


def count_runs() -> bool:
    """Count what is not sure yet. Returns whether there is more to be done at once. Raises psycopg.Error."""
    with short_transaction(60) as connection:
        rows = fetch(connection, SQL["lock_progress"])
        if not rows:
            return False  # another process is at it
        return _count(connection, rows[0])


def _count(connection: Connection, progress: Row) -> bool:
    before, now = progress["sure_until"], progress["now"]
    final = max(before, _minute_of(progress["seen_at"] - _GRACE)) if progress["is_over"] else before
    begin = before if final > before else max(before, _minute_of(now) - _RECOUNTED)
    end = min(_minute_of(now) + _MINUTE, begin + _AT_ONCE)
    sure = min(final, end)
    values: dict[str, Any] = {
        "begin": begin, "end": end, "begin_id": first_run_id(begin), "end_id": first_run_id(end), "sure": sure,
        "kept": now - MINUTES_KEPT, "kept_by_work": now - MINUTES_OF_WORK_KEPT,
    }  # fmt: skip
    by_work = progress["by_work"] and end > now - HOURS_OF_WORK_KEPT
    execute(connection, SQL["count" if by_work else "count_by_tenant"], values)
    if by_work and sure.replace(minute=0) > before:
        execute(connection, SQL["forget_work"], {"sure": sure})  # with each new hour
    if sure > before:
        execute(connection, SQL["add_busy"], {"before": before, "sure": sure})
    execute(connection, SQL["note_progress"], {"sure": sure, "is_over": progress["is_over"]})
    return bool(sure < final)


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def count_and_log() -> None:
    """Count runs, and look at the queues, until there is no more to be done. Errors are logged."""
    try:
        note_depths()
        begun = time.monotonic()
        while count_runs():  # much is to be counted: others get two thirds of the time
            time.sleep(2 * (time.monotonic() - begun))
            begun = time.monotonic()
        begun = time.monotonic()
        while count_outcomes():
            time.sleep(2 * (time.monotonic() - begun))
            begun = time.monotonic()
    except psycopg.Error as exc:
        if not is_not_migrated(exc):
            log.warning("runs_not_counted", reason=str(exc).strip())
    except Exception:
        log.exception("runs_not_counted")


def forget_counts(connection: Connection, days: int) -> None:
    """Forget minutes after two days, and hours and days after so many. Raises psycopg.Error."""
    execute(connection, SQL["forget_counts"], {"days": days})
    execute(connection, SQL["forget_depths"], {"days": days})
