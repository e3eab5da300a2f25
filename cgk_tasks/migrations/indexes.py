"""Indexes that a database in use gets and loses: `CONCURRENTLY`, so that nobody waits while a large table is read.

That cannot be part of a migration, which is a transaction. So a migration adds the columns, and what is missing here is
made after it; an interrupted one is made anew. Without those of `cgk.runs` nothing works; that of the history makes
pages of the dashboard fast. What others have taken the place of is dropped once these are there.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import psycopg
import structlog
from psycopg import sql

from cgk_tasks.migrations.patience import LOCK_TIMEOUT_SECONDS, retry_while_locked
from cgk_tasks.sql.postgres import (
    Connection,
    autocommit,
    fetch,
    script,
    short_transaction,
    statements,
    transaction,
)

SQL = statements("indexes")
log = structlog.get_logger("cgk_tasks.migrations")

SINCE: Final = "0017"
"""The migration that adds the columns of the first of them."""


class Index(NamedTuple):
    """needs: the column without which it cannot be made, of a migration that a database may not have yet."""

    needs: str
    statement: str


INDEXES: Final = {
    "runs_in_lane": Index(
        "lane_id",
        "CREATE INDEX CONCURRENTLY {} ON cgk.runs (lane_id, rank, id) WHERE state = 'held' AND lane_id IS NOT NULL",
    ),
    "runs_unlaned": Index(
        "lane_id",
        "CREATE INDEX CONCURRENTLY {} ON cgk.runs (queue, tenant_id) WHERE state = 'held' AND lane_id IS NULL",
    ),
    "runs_in_slot": Index(
        "slot",
        "CREATE INDEX CONCURRENTLY {} ON cgk.runs (slot, lane_id)"
        " WHERE slot IS NOT NULL AND admitted_at = handed_over_at AND state IN ('pending', 'running')",
    ),
    "runs_merging": Index(
        "merge_key",
        "CREATE UNIQUE INDEX CONCURRENTLY {} ON cgk.runs (tenant_id, event, merge_key)"
        " WHERE state = 'scheduled' AND started_at IS NULL AND merge_key IS NOT NULL",
    ),
    "runs_single": Index(
        "single_key",
        "CREATE UNIQUE INDEX CONCURRENTLY {} ON cgk.runs (tenant_id, event, single_key) WHERE single_key IS NOT NULL",
    ),
}

REPLACED: Final = {"runs_held": "0034"}
"""Indexes whose place others have taken, and the migration from which on nothing uses them."""

OF_HISTORY: Final = "run_history_dead_letters"
_OF_PARTITION: Final = (
    "CREATE INDEX CONCURRENTLY {} ON {} (event, error_fingerprint, closed_at) INCLUDE (id, tenant_id)"
    " WHERE state = 'failed'"
)

_LOCK: Final = 4_216_201_002
_PAUSE_SECONDS = 0.2


def are_made() -> bool:
    """Whether all of the open runs' are there, and valid."""
    with autocommit() as connection:
        return not _unmade(connection)


def drop_replaced(revision: str) -> None:
    """Drop what nothing uses any more at this revision. Raises psycopg.Error."""
    with autocommit() as connection:
        for name, since in REPLACED.items():
            if revision >= since:
                _drop(connection, name)


def make() -> None:
    """Make those that are missing, in one process at a time. Raises psycopg.Error."""
    while _is_something_left():
        with transaction() as guard:
            if _is_the_only_one(guard):
                with autocommit() as connection:
                    for name in _unmade(connection):
                        _make(connection, name)
                    for partition in _unindexed(connection):
                        _index(connection, partition)
                return
        time.sleep(_PAUSE_SECONDS)


def _is_something_left() -> bool:
    with autocommit() as connection:
        return bool(_unmade(connection) or _unindexed(connection))


def _is_the_only_one(guard: Connection) -> bool:
    """Whether this process holds the lock now.

    CREATE INDEX CONCURRENTLY waits for all that have a snapshot: so the lock is not waited for, and the statement is a
    simple one, of which no portal stays open.
    """
    return script(guard, b"SELECT pg_try_advisory_xact_lock(%d)" % _LOCK)[0].get_value(0, 0) == b"t"


def _unmade(connection: Connection) -> list[str]:
    values = {"names": list(INDEXES), "needs": [index.needs for index in INDEXES.values()]}
    return [row["name"] for row in fetch(connection, SQL["unmade"], values)]


def _make(connection: Connection, name: str) -> None:
    _drop(connection, name)
    connection.execute(sql.SQL(INDEXES[name].statement).format(sql.Identifier(name)))


def _drop(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier("cgk", name)))


def _unindexed(connection: Connection) -> list[str]:
    """The partitions of the history that lack its index; none before the migration that has it."""
    return [row["name"] for row in fetch(connection, SQL["partitions_without"], {"index": f"cgk.{OF_HISTORY}"})]


def _index(connection: Connection, partition: str) -> None:
    name = f"{partition}_dead_letters"
    table, index = sql.Identifier("cgk", partition), sql.Identifier("cgk", name)
    try:
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index))
        connection.execute(sql.SQL(_OF_PARTITION).format(sql.Identifier(name), table))
        _attach(index)
    except psycopg.errors.UndefinedTable:  # its day was dropped meanwhile
        log.info("partition_gone", partition=partition)


def _attach(index: sql.Identifier) -> None:
    """Make it a part of the index of all days. Whoever has read this day while it was made has locked it until the end
    of the transaction, and every run's end would wait behind this statement.
    """
    statement = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(sql.Identifier("cgk", OF_HISTORY), index)

    def attach() -> None:
        with short_transaction(lock_seconds=LOCK_TIMEOUT_SECONDS) as connection:
            connection.execute(statement)

    retry_while_locked("An index of the history", attach)
