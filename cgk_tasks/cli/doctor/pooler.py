"""Prepared statements behind PgBouncer in transaction mode: tried, because no setting tells whether it follows them."""

from __future__ import annotations

import threading

import psycopg

from cgk_tasks.cli.doctor.findings import Finding, fail, ok
from cgk_tasks.config import get_settings
from cgk_tasks.sql.connecting import CONNECT_WITH, Connection
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.sql.urls import parameters

_CHECK = "prepared statements"
_PATIENCE_SECONDS = 3.0


def check() -> list[Finding]:
    """Whether a statement that one transaction prepared can be run in the next, on another of the server's
    connections.
    """
    try:
        with autocommit() as connection:
            if connection.prepare_threshold is None:
                return [ok(_CHECK, "none are made (CGK_PREPARE_THRESHOLD)")]
        with _connect(prepare_threshold=0) as first, _connect(prepare_threshold=None) as second:
            _try(first, second)
    except (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement):
        return [
            fail(
                _CHECK,
                "A pooler in front of PostgreSQL loses prepared statements: runs would fail, or run twice.",
                "Set max_prepared_statements = 200 in PgBouncer 1.21 or newer, or CGK_PREPARE_THRESHOLD=0 here.",
            )
        ]
    except psycopg.Error:
        return []  # the server went away meanwhile: other checks say so
    return [ok(_CHECK, "found again in the next transaction")]


def _connect(*, prepare_threshold: int | None) -> Connection:
    values = CONNECT_WITH | parameters(get_settings().database)
    return psycopg.connect(**values, autocommit=True, prepare_threshold=prepare_threshold)


def _try(first: Connection, second: Connection) -> None:
    """`second` holds the connection that `first` used, so that the pooler must give `first` another one."""
    first.execute("SELECT 1")
    second.execute("BEGIN")
    second.execute("SELECT 2")
    release = threading.Timer(
        _PATIENCE_SECONDS, second.close
    )  # a pooler with one connection would keep `first` waiting
    release.start()
    try:
        for _ in range(2):
            first.execute("SELECT 1")
    finally:
        release.cancel()
