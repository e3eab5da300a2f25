"""The conversion of a run's content into bytes, beside running workers: what migration 0013 leaves to be done.

Rows are converted in batches, each a short transaction of its own, in the order of their ids. What is converted stays
so: an interrupted conversion goes on where it ended. The last step makes the index of errors, partition by partition
and without holding up whoever writes; once that is there, the conversion is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql

from cgk_tasks.runs.plain_columns import search_fields, searchable_events
from cgk_tasks.runs.sealing import open_sealed
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, statements, transaction

SQL = statements("content")
log = structlog.get_logger("cgk_tasks.migrations")

Report = Callable[[str, int], None]
"""Called after each batch with the table, and how many of its rows have been converted so far."""

BATCH: Final = 1_000
_FIRST: Final = "00000000-0000-0000-0000-000000000000"
_TABLES: Final = ("tenant_schedules", "runs", "group_members", "run_history", "run_logs")


def convert(report: Report | None = None) -> int:
    """Convert what is not converted yet. Returns how many rows there were. Raises psycopg.Error."""
    events = searchable_events()
    converted = sum(_convert_table(table, events, report) for table in _TABLES)
    _index_partitions()
    return converted


def is_complete() -> bool:
    """Whether all content is there as bytes. False before migration 0013."""
    with autocommit() as connection:
        found = fetch(connection, SQL["is_converted"])
    return bool(found and found[0]["yes"])


def _convert_table(table: str, events: list[str], report: Report | None) -> int:
    done = 0
    while made := _pass(table, events, report, done):  # until one finds nothing: ids may occur twice in the history
        done += made
    if done:
        log.info("content_converted", table=table, rows=done)
    return done


def _pass(table: str, events: list[str], report: Report | None, before: int) -> int:
    made, after = 0, _FIRST
    while rows := _batch(table, {"after": after, "events": events, "limit": BATCH}):
        made += len(rows)
        after = max(row["id"] for row in rows)
        if report is not None:
            report(table, before + made)
    return made


def _batch(table: str, values: dict[str, Any]) -> list[Row]:
    with transaction() as connection:
        rows = fetch(connection, SQL[f"convert_{table}"], values)
        found = [row for row in rows if row.get("sealed_payload") is not None]
        if found:
            fields = {"ids": [row["id"] for row in found], "search_fields": [_search_fields(row) for row in found]}
            execute(connection, SQL[f"set_search_fields_of_{table}"], fields)
    return rows


def _search_fields(row: Row) -> str:
    payload = open_sealed(row["tenant_id"], "payload", row["sealed_payload"], row["key_id"])
    return search_fields(row["event"], payload) or ""


def _index_partitions() -> None:
    with autocommit() as connection:
        for row in fetch(connection, SQL["partitions_without_index"]):
            try:
                _index(connection, row["name"])
            except psycopg.errors.UndefinedTable:  # its day was dropped meanwhile
                log.info("partition_gone", partition=row["name"])


def _index(connection: Connection, partition: str) -> None:
    table, index = sql.Identifier("cgk", partition), sql.Identifier("cgk", f"{partition}_errors")
    # What an interrupted one has left is not valid.
    connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(index))
    connection.execute(
        sql.SQL(
            "CREATE INDEX CONCURRENTLY {} ON {} (event, error_fingerprint, closed_at) WHERE state = 'failed'"
        ).format(sql.Identifier(f"{partition}_errors"), table)
    )
    connection.execute(sql.SQL("ALTER INDEX cgk.run_history_errors ATTACH PARTITION {}").format(index))
