"""Housekeeping: daily partitions of what is kept of runs made in advance, old ones dropped, expired keys forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from psycopg import sql

from cgk_tasks.config import get_settings
from cgk_tasks.runs import event_waits
from cgk_tasks.runs.counts import forget_counts
from cgk_tasks.runs.models import first_run_id
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Connection, autocommit, execute, fetch, short_transaction, statements
from cgk_tasks.tenancy.audit import forget_program_actions

SQL, LIMITS = statements("dispatch"), statements("limits")
MERGING, USAGE = statements("merging"), statements("usage")
log = structlog.get_logger("cgk_tasks.history")

_AHEAD_DAYS = 7
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
    begin: Callable[[date], str] = _time_of
    at: str = ""

    @property
    def goes_with_runs(self) -> bool:
        """Whether its rows are kept for as long as their run is on record, whether it is open or closed."""
        return self.begin is _id_of


DAILY_TABLES = (
    DailyTable("run_history", "closed_at"),
    DailyTable("run_logs", "logged_at"),
    DailyTable("event_mail", "sent_at"),
    DailyTable("steps", "run_id", _id_of, at="begun_at"),
    DailyTable("mail", "run_id", _id_of, at="sent_at"),
    DailyTable("run_progress", "run_id", _id_of, at="changed_at"),
    DailyTable("run_bodies", "run_id", _id_of, at="made_at"),
)


def run_housekeeping() -> None:
    """Everything that must be done once in a while; safe to repeat."""
    today, settings = database_now().date(), get_settings()
    for table in DAILY_TABLES:
        if not _is_there(table.name):  # an upgrade is under way
            continue
        make_partitions(today, table)
        if table.goes_with_runs:
            forget_with_runs(today - timedelta(days=settings.history_days), table)
        else:
            days = settings.mail_days if table.name == "event_mail" else settings.history_days
            drop_partitions(today - timedelta(days=days), table)
    with autocommit() as connection:
        while execute(connection, SQL["forget_keys"], {"limit": 10_000}) == 10_000:
            pass
        execute(connection, SQL["forget_groups"], {"days": get_settings().history_days})
        execute(connection, SQL["forget_discarded"], {"days": get_settings().history_days})
        forget_program_actions(connection, get_settings().history_days)
        if _is_there("runs_of_days"):
            execute(connection, LIMITS["forget_days"])
            execute(connection, USAGE["forget_usage"], {"days": settings.usage_days})
        if _is_there("run_counts"):
            forget_counts(connection, settings.history_days)
        if _is_there("event_waits"):
            event_waits.forget(connection, settings.mail_days)
        if _is_there("buckets"):
            execute(connection, MERGING["forget_buckets"], {"limit": 10_000})


def make_partitions(today: date, table: DailyTable = DAILY_TABLES[0]) -> list[str]:
    """Make the partitions of the coming days that are missing. Returns their names.

    A day for which rows are already in the catch-all partition is left there: correct, only dropped later.
    """
    made = []
    with short_transaction() as connection:
        # One process at a time. Not an advisory lock, which a tenant's SQL could hold; reads and writes go on.
        connection.execute(
            sql.SQL("LOCK TABLE cgk.{} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(table.name))
        )
        existing = _partitions(connection, table)
        for offset in range(_AHEAD_DAYS + 1):
            day = today + timedelta(days=offset)
            name = f"{table.name}_{day:%Y%m%d}"
            begin, end = table.begin(day), table.begin(day + timedelta(days=1))
            if name in existing or _in_rest(connection, table, begin, end):
                continue
            connection.execute(
                sql.SQL("CREATE TABLE cgk.{} PARTITION OF cgk.{} FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(name),
                    sql.Identifier(table.name),
                    sql.Literal(begin),
                    sql.Literal(end),
                )
            )
            made.append(name)
    return made


def drop_partitions(before: date, table: DailyTable = DAILY_TABLES[0]) -> list[str]:
    """Drop the partitions of the days before `before`, and such rows of the catch-all. Returns the dropped names."""
    dropped = []
    with short_transaction() as connection:
        for name, day in _days(connection, table):
            if day < before:
                connection.execute(sql.SQL("DROP TABLE cgk.{}").format(sql.Identifier(name)))
                dropped.append(name)
        connection.execute(
            sql.SQL("DELETE FROM cgk.{} WHERE {} < %s").format(_rest(table), sql.Identifier(table.by)),
            (_midnight(before),),
        )
    if dropped:
        log.info("history_dropped", partitions=dropped)
    return dropped


def forget_with_runs(before: date, table: DailyTable) -> list[str]:
    """Drop the partitions of the days before `before` whose runs are not on record any more. Returns the dropped names.

    Where some are, because they are open or closed late, the rows of the others are deleted.
    """
    dropped = []
    with autocommit() as connection:
        old = [(name, day) for name, day in _days(connection, table) if day < before]
    for name, day in old:
        values = {"begin": _id_of(day), "end": _id_of(day + timedelta(days=1))}
        with short_transaction() as connection:
            if fetch(connection, SQL["has_runs_between"], values)[0]["yes"]:
                connection.execute(_FORGET_BETWEEN.format(sql.Identifier(name)), values)
            else:
                connection.execute(sql.SQL("DROP TABLE IF EXISTS cgk.{}").format(sql.Identifier(name)))
                dropped.append(name)
    with autocommit() as connection:
        forget_rest = _FORGET_REST.format(_rest(table), at=sql.Identifier(table.at))
        connection.execute(forget_rest, (_midnight(before),))
    if dropped:
        log.info("history_dropped", partitions=dropped)
    return dropped


_FORGET_BETWEEN = sql.SQL("""
DELETE FROM cgk.{} WHERE run_id NOT IN (
    SELECT id FROM cgk.runs WHERE id >= %(begin)s::uuid AND id < %(end)s::uuid
    UNION ALL
    SELECT id FROM cgk.run_history WHERE id >= %(begin)s::uuid AND id < %(end)s::uuid)""")

_FORGET_REST = sql.SQL("""
DELETE FROM cgk.{} AS old
 WHERE old.{at} < %s AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.id = old.run_id)
   AND NOT EXISTS (SELECT FROM cgk.run_history h WHERE h.id = old.run_id)""")


def _is_there(table: str) -> bool:
    with autocommit() as connection:
        found: bool = fetch(connection, SQL["is_there"], {"table": f"cgk.{table}"})[0]["yes"]
    return found


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
