"""Reading for a page: it gives up after some seconds, whatever is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import errors as pg_errors

from cgk_tasks.errors import StoreError
from cgk_tasks.sql.postgres import Connection, fetch, is_not_migrated, statements, transaction

SQL = statements("dashboard")
T = TypeVar("T")

STATEMENT_TIMEOUT_SECONDS = 8.0


class QueryTimeoutError(StoreError):
    """A question that PostgreSQL could not answer in time."""

    code = "QUERY_TIMEOUT"


@contextmanager
def read_transaction(seconds: float = STATEMENT_TIMEOUT_SECONDS) -> Iterator[Connection]:
    """A connection whose statements may take so long. Raises QueryTimeoutError, which says what to do."""
    try:
        with transaction() as connection:
            fetch(connection, SQL["statement_timeout"], {"milliseconds": str(int(seconds * 1000))})
            yield connection
    except pg_errors.QueryCanceled as exc:
        raise QueryTimeoutError(
            f"This took longer than {seconds:g} s. Narrow it down: by time, tenant, event or state."
        ) from exc


def if_migrated(read: Callable[[Connection], T]) -> T | None:
    """What is read in such a transaction; None in a database that has not been migrated to the end yet. Raises
    QueryTimeoutError.
    """
    try:
        with read_transaction() as connection:
            return read(connection)
    except psycopg.Error as exc:
        if not is_not_migrated(exc):
            raise
    return None
