"""Daily partitions of what is kept of runs: made in advance, and dropped when they are old.

Both lock the whole table, for which they would wait until the end of a long read, as a backup is one, and all runs that
end would wait behind them. So a lock is waited for a moment only: what was not done is done another time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

import structlog
from psycopg import sql

from cgk_tasks.runs.models import first_run_id
from cgk_tasks.sql.postgres import Connection, autocommit, fetch, short_transaction, statements

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.history")

_AHEAD_DAYS = 7
_LOCK_SECONDS = 0.2
"""Whoever writes to the table waits for as long as that at most."""
_DAY = re.compile(r"_(\d{4})(\d{2})(\d{2})$")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _time_of(day: date) -> str:
    return _midnight(day).isoformat()


def _id_of(day: date) -> str:
    return first_run_id(_midnight(day))


@dataclass(frozen=True, slots=True)
class DailyTable:
    """A table of the schema cgk with a partition for each day of the column `by`, and a catch-all NAME_rest.

    begin: the least value of the column on a day. at: the column that has the time of a row.
    """

    name: str
    by: str
    at: str
    begin: Callable[[date], str] = _time_of

    @property
    def goes_with_runs(self) -> bool:
        """Whether its rows are kept for as long as their run is on record, whether it is open or closed."""
        return self.begin is _id_of


DAILY_TABLES = (
    DailyTable("run_history", "closed_at", "closed_at"),
    DailyTable("run_logs", "logged_at", "logged_at"),
    DailyTable("event_mail", "sent_at", "sent_at"),
    DailyTable("steps", "run_id", "begun_at", _id_of),
    DailyTable("mail", "run_id", "sent_at", _id_of),
    DailyTable("run_progress", "run_id", "changed_at", _id_of),
    DailyTable("run_bodies", "run_id", "made_at", _id_of),
)


def make_days(today: date, table: DailyTable = DAILY_TABLES[0]) -> list[str]:
    """Make the partitions of the coming days that are missing. Returns their names. Raises LockNotAvailable.

    A day for which rows are already in the catch-all partition is left there: correct, only dropped later.
    """
    with autocommit() as connection:
        existing = _partitions(connection, table)
    coming = [today + timedelta(days=offset) for offset in range(_AHEAD_DAYS + 1)]
    named = [(f"{table.name}_{day:%Y%m%d}", day) for day in coming]
    return _each([(name, day) for name, day in named if name not in existing], partial(_make, table))


def _make(table: DailyTable, connection: Connection, name: str, day: date) -> bool:
    # One process at a time. Not an advisory lock, which a tenant's SQL could hold; reads and writes go on.
    connection.execute(sql.SQL("LOCK TABLE cgk.{} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(table.name)))
    begin, end = table.begin(day), table.begin(day + timedelta(days=1))
    if name in _partitions(connection, table) or _in_rest(connection, table, begin, end):
        return False
    connection.execute(
        sql.SQL("CREATE TABLE cgk.{} PARTITION OF cgk.{} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(name), sql.Identifier(table.name), sql.Literal(begin), sql.Literal(end)
        )
    )
    return True


def forget_days(before: date, table: DailyTable = DAILY_TABLES[0]) -> list[str]:
    """Drop the partitions of the days before `before`, and such rows of the catch-all. Returns their names.

    Raises LockNotAvailable. Rows that go with runs stay where their run is on record: it is open, or closed late.
    """
    forget_rest = _FORGET_REST_WITH_RUNS if table.goes_with_runs else _FORGET_REST
    with autocommit() as connection:
        connection.execute(forget_rest.format(_rest(table), at=sql.Identifier(table.at)), (_midnight(before),))
        days = [(name, day) for name, day in _days(connection, table) if day < before]
    dropped = _each(days, partial(_forget, table))
    if dropped:
        log.info("history_dropped", partitions=dropped)
    return dropped


def _forget(table: DailyTable, connection: Connection, name: str, day: date) -> bool:
    ids = {"begin": _id_of(day), "end": _id_of(day + timedelta(days=1))}
    if table.goes_with_runs and fetch(connection, SQL["has_runs_between"], ids)[0]["yes"]:
        connection.execute(_FORGET_BETWEEN.format(sql.Identifier(name)), ids)
        return False
    connection.execute(sql.SQL("DROP TABLE IF EXISTS cgk.{}").format(sql.Identifier(name)))
    return True


def _each(days: Iterable[tuple[str, date]], act: Callable[[Connection, str, date], bool]) -> list[str]:
    """Do it for each of these partitions, in a transaction each. Returns for which it was done."""
    done = []
    for name, day in days:
        with short_transaction(lock_seconds=_LOCK_SECONDS) as connection:
            if act(connection, name, day):
                done.append(name)
    return done


_FORGET_BETWEEN = sql.SQL("""
DELETE FROM cgk.{} WHERE run_id NOT IN (
    SELECT id FROM cgk.runs WHERE id >= %(begin)s::uuid AND id < %(end)s::uuid
    UNION ALL
    SELECT id FROM cgk.run_history WHERE id >= %(begin)s::uuid AND id < %(end)s::uuid)""")

_FORGET_REST = sql.SQL("DELETE FROM cgk.{} WHERE {at} < %s")

_FORGET_REST_WITH_RUNS = sql.SQL("""
DELETE FROM cgk.{} AS old
 WHERE old.{at} < %s AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.id = old.run_id)
   AND NOT EXISTS (SELECT FROM cgk.run_history h WHERE h.id = old.run_id)""")


def _days(connection: Connection, table: DailyTable) -> list[tuple[str, date]]:
    """The partitions of single days, the oldest first."""
    found = ((name, _DAY.search(name)) for name in sorted(_partitions(connection, table)))
    return [(name, date(*(int(part) for part in match.groups()))) for name, match in found if match]


def _partitions(connection: Connection, table: DailyTable) -> set[str]:
    return {row["name"] for row in fetch(connection, SQL["partitions"], {"table": f"cgk.{table.name}"})}


def _in_rest(connection: Connection, table: DailyTable, begin: str, end: str) -> bool:
    statement = sql.SQL("SELECT FROM cgk.{} WHERE {by} >= %s AND {by} < %s LIMIT 1").format(
        _rest(table), by=sql.Identifier(table.by)
    )
    return connection.execute(statement, (begin, end)).fetchone() is not None


def _rest(table: DailyTable) -> sql.Identifier:
    return sql.Identifier(f"{table.name}_rest")
