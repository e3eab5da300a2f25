"""Housekeeping: daily partitions of the history and the run logs made in advance, old ones dropped, expired keys
forgotten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from psycopg import sql

from cgk_tasks.config import get_settings
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Connection, autocommit, execute, fetch, statements, transaction
from cgk_tasks.tenancy.audit import forget_program_actions

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.history")

_AHEAD_DAYS = 7
_DAY = re.compile(r"_(\d{4})(\d{2})(\d{2})$")


@dataclass(frozen=True, slots=True)
class DailyTable:
    """A table of the schema cgk with a partition for each day of the column `by`, and a catch-all NAME_rest."""

    name: str
    by: str


DAILY_TABLES = (DailyTable("run_history", "closed_at"), DailyTable("run_logs", "logged_at"))


def run_housekeeping() -> None:
    """Everything that must be done once in a while; safe to repeat."""
    today = database_now().date()
    for table in DAILY_TABLES:
        make_partitions(today, table)
        drop_partitions(today - timedelta(days=get_settings().history_days), table)
    with autocommit() as connection:
        while execute(connection, SQL["forget_keys"], {"limit": 10_000}) == 10_000:
            pass
        execute(connection, SQL["forget_groups"], {"days": get_settings().history_days})
        execute(connection, SQL["forget_discarded"], {"days": get_settings().history_days})
        forget_program_actions(connection, get_settings().history_days)


def make_partitions(today: date, table: DailyTable = DAILY_TABLES[0]) -> list[str]:
    """Make the partitions of the coming days that are missing. Returns their names.

    A day for which rows are already in the catch-all partition is left there: correct, only dropped later.
    """
    made = []
    with transaction() as connection:
        # One process at a time. Not an advisory lock, which a tenant's SQL could hold; reads and writes go on.
        connection.execute(
            sql.SQL("LOCK TABLE cgk.{} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(table.name))
        )
        existing = _partitions(connection, table)
        for offset in range(_AHEAD_DAYS + 1):
            day = today + timedelta(days=offset)
            name = f"{table.name}_{day:%Y%m%d}"
            if name in existing or _in_rest(connection, table, _midnight(day), _midnight(day + timedelta(days=1))):
                continue
            connection.execute(
                sql.SQL("CREATE TABLE cgk.{} PARTITION OF cgk.{} FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(name),
                    sql.Identifier(table.name),
                    sql.Literal(_midnight(day).isoformat()),
                    sql.Literal(_midnight(day + timedelta(days=1)).isoformat()),
                )
            )
            made.append(name)
    return made


def drop_partitions(before: date, table: DailyTable = DAILY_TABLES[0]) -> list[str]:
    """Drop the partitions of the days before `before`, and such rows of the catch-all. Returns the dropped names."""
    dropped = []
    with transaction() as connection:
        for name in sorted(_partitions(connection, table)):
            match = _DAY.search(name)
            if match and date(*(int(part) for part in match.groups())) < before:
                connection.execute(sql.SQL("DROP TABLE cgk.{}").format(sql.Identifier(name)))
                dropped.append(name)
        connection.execute(
            sql.SQL("DELETE FROM cgk.{} WHERE {} < %s").format(_rest(table), sql.Identifier(table.by)),
            (_midnight(before),),
        )
    if dropped:
        log.info("history_dropped", partitions=dropped)
    return dropped


def _partitions(connection: Connection, table: DailyTable) -> set[str]:
    return {row["name"] for row in fetch(connection, SQL["partitions"], {"table": f"cgk.{table.name}"})}


def _in_rest(connection: Connection, table: DailyTable, begin: datetime, end: datetime) -> bool:
    statement = sql.SQL("SELECT FROM cgk.{} WHERE {by} >= %s AND {by} < %s LIMIT 1").format(
        _rest(table), by=sql.Identifier(table.by)
    )
    return connection.execute(statement, (begin, end)).fetchone() is not None


def _rest(table: DailyTable) -> sql.Identifier:
    return sql.Identifier(f"{table.name}_rest")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
