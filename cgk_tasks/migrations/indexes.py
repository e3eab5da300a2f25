"""Indexes of `cgk.runs` that a database in use gets: `CONCURRENTLY`, so that nobody waits while a large table is read.

That cannot be part of a migration, which is a transaction. So a migration adds the columns, and what is missing here is
made after it; an interrupted one is made anew.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from psycopg import sql

from cgk_tasks.sql.postgres import Connection, autocommit, fetch, script, statements, transaction

SQL = statements("indexes")

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

_LOCK: Final = 4_216_201_002
_PAUSE_SECONDS = 0.2


def are_made() -> bool:
    """Whether all of them are there, and valid."""
    with autocommit() as connection:
        return not _unmade(connection)


def make() -> None:
    """Make those that are missing, in one process at a time. Raises psycopg.Error."""
    while not are_made():
        with transaction() as guard:
            if _is_the_only_one(guard):
                with autocommit() as connection:
                    for name in _unmade(connection):
                        _make(connection, name)
                return
        time.sleep(_PAUSE_SECONDS)


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
    connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier("cgk", name)))
    connection.execute(sql.SQL(INDEXES[name].statement).format(sql.Identifier(name)))
