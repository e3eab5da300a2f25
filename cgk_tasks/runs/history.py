"""Housekeeping: daily partitions of the history made in advance, old ones dropped, expired keys forgotten."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import structlog
from psycopg import sql

from cgk_tasks.config import get_settings
from cgk_tasks.postgres import autocommit, execute, fetch, statements, transaction

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.history")

_AHEAD_DAYS = 7
_NAME = re.compile(r"run_history_(\d{4})(\d{2})(\d{2})")
_LOCK = 4_216_201_002


def keep_house() -> None:
    """Everything that must be done once in a while; safe to repeat."""
    make_partitions(datetime.now(UTC).date())
    drop_partitions(datetime.now(UTC).date() - timedelta(days=get_settings().history_days))
    with autocommit() as connection:
        while execute(connection, SQL["forget_keys"], {"limit": 10_000}) == 10_000:
            pass
        execute(connection, SQL["forget_groups"], {"days": get_settings().history_days})
        execute(connection, SQL["forget_discarded"], {"days": get_settings().history_days})


def make_partitions(today: date) -> list[str]:
    """Make the partitions of the coming days that are missing. Returns their names.

    A day for which rows are already in the catch-all partition is left there: correct, only dropped later.
    """
    made = []
    with transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        existing = {row["name"] for row in fetch(connection, SQL["history_partitions"])}
        for offset in range(_AHEAD_DAYS + 1):
            day = today + timedelta(days=offset)
            name = f"run_history_{day:%Y%m%d}"
            if name in existing:
                continue
            begin, end = (datetime(d.year, d.month, d.day, tzinfo=UTC) for d in (day, day + timedelta(days=1)))
            in_rest = connection.execute(
                "SELECT FROM cgk.run_history_rest WHERE closed_at >= %s AND closed_at < %s LIMIT 1", (begin, end)
            ).fetchone()
            if in_rest is not None:
                continue
            connection.execute(
                sql.SQL("CREATE TABLE cgk.{} PARTITION OF cgk.run_history FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(name), sql.Literal(begin.isoformat()), sql.Literal(end.isoformat())
                )
            )
            made.append(name)
    return made


def drop_partitions(before: date) -> list[str]:
    """Drop the partitions of the days before `before`, and such rows of the catch-all. Returns the dropped names."""
    dropped = []
    with transaction() as connection:
        for row in fetch(connection, SQL["history_partitions"]):
            match = _NAME.fullmatch(row["name"])
            if match and date(*(int(part) for part in match.groups())) < before:
                connection.execute(sql.SQL("DROP TABLE cgk.{}").format(sql.Identifier(row["name"])))
                dropped.append(row["name"])
        connection.execute(
            "DELETE FROM cgk.run_history_rest WHERE closed_at < %s",
            (datetime(before.year, before.month, before.day, tzinfo=UTC),),
        )
    if dropped:
        log.info("history_dropped", partitions=dropped)
    return dropped
