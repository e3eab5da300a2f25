"""The connection to PostgreSQL: one pool a process, and the SQL statements by name.

Every statement lives in a `.sql` file under `cgk_tasks/sql/`, in blocks that begin with `-- name: NAME`.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg_errors
from psycopg.rows import dict_row

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, StoreError

Row = dict[str, Any]
Connection = psycopg.Connection[Any]
AnyConnection = Connection | sa.Connection
T = TypeVar("T")

_BLOCK = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def statements(file: str) -> Mapping[str, str]:
    """The named statements of one `.sql` file."""
    text = files("cgk_tasks.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")
    parts = _BLOCK.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def sqlalchemy_url(url: str) -> sa.URL:
    """The URL for SQLAlchemy with the psycopg driver, whatever driver the URL names."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ConfigurationError("CGK_DATABASE_URL is not a URL like postgresql://user:password@host/name") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"CGK_DATABASE_URL names {parsed.get_backend_name()}; only PostgreSQL works.")
    return parsed.set(drivername="postgresql+psycopg")


class _Pools:
    """Engines by process: a child never uses a connection (or a lock) that it inherited over fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._engines: dict[str, sa.Engine] = {}

    def engine(self, url: str) -> sa.Engine:
        if self._pid != os.getpid():
            self._lock, self._pid, self._engines = threading.Lock(), os.getpid(), {}
        engine = self._engines.get(url)
        if engine is None:
            with self._lock:
                engine = self._engines.setdefault(url, _new_engine(url))
        return engine

    def close(self) -> None:
        if self._pid == os.getpid():
            for engine in self._engines.values():
                engine.dispose()
        self._engines = {}


def _new_engine(url: str) -> sa.Engine:
    engine = sa.create_engine(
        sqlalchemy_url(url),
        pool_size=5,
        max_overflow=40,
        pool_recycle=1800,
        pool_use_lifo=True,  # the same connection again and again: its prepared statements stay warm
        connect_args={"connect_timeout": 5, "application_name": "cgk_tasks"},
    )
    sa.event.listen(engine, "checkout", _require_open)
    return engine


def _require_open(connection: Connection, _record: object, _proxy: object) -> None:
    """An idle connection with something to read was closed by PostgreSQL: the pool gives out a new one in its place.

    A look at the socket costs a microsecond, a `SELECT 1` as much as a statement.
    """
    if not connection.closed:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        if not waiting.poll(0):
            return
    raise sa.exc.InvalidatePoolError("PostgreSQL closed the connection while it was idle.")


_pools = _Pools()


def engine() -> sa.Engine:
    """The SQLAlchemy engine of this process for CGK_DATABASE_URL."""
    return _pools.engine(get_settings().database)


def close_pools() -> None:
    """Close every pooled connection of this process."""
    _pools.close()


@contextmanager
def autocommit() -> Iterator[Connection]:
    """A connection on which every statement is its own transaction: one round trip each."""
    proxied = engine().raw_connection()
    connection: Connection = proxied.driver_connection  # type: ignore[assignment]
    try:
        connection.autocommit = True
        yield connection
    except psycopg.OperationalError:
        proxied.invalidate()
        raise
    finally:
        if proxied.is_valid:
            if not connection.closed:
                connection.autocommit = False
            proxied.close()


@contextmanager
def transaction() -> Iterator[Connection]:
    """A connection in one transaction: commits at the end, rolls back on an exception."""
    with autocommit() as connection, connection.transaction():
        yield connection


def fetch(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """Run one statement and return its rows as dictionaries.

    The connection is one of ours, or the SQLAlchemy connection under a caller's session (sync, or an
    AsyncSession inside `run_sync`).
    """
    if isinstance(connection, sa.Connection):
        result = connection.exec_driver_sql(statement, dict(values or {}))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def fetch_tuples(connection: AnyConnection, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Like `fetch`, for the statements of every run: no dictionary, and no look at the columns' names."""
    if isinstance(connection, sa.Connection):
        return [tuple(row) for row in connection.exec_driver_sql(statement, dict(values))]
    with connection.cursor() as cursor:
        return cursor.execute(statement, values).fetchall()


def execute(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None = None) -> int:
    """Run one statement and return how many rows it touched."""
    if isinstance(connection, sa.Connection):
        return connection.exec_driver_sql(statement, dict(values or {})).rowcount
    return connection.execute(statement, values).rowcount


def is_away(exc: BaseException) -> bool:
    """Whether the exception says that PostgreSQL cannot be reached right now (a later try may work)."""
    if isinstance(exc, sa.exc.DBAPIError) and exc.orig is not None:
        return is_away(exc.orig)
    return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(
        exc, pg_errors.InvalidCatalogName | pg_errors.InvalidPassword | pg_errors.QueryCanceled | pg_errors.LockNotAvailable
    )


def patiently(action: Callable[[], T], patience_seconds: float) -> T:
    """Call `action` again while PostgreSQL is away, with growing pauses up to 2 s, for `patience_seconds`."""
    give_up = time.monotonic() + patience_seconds
    pause = 0.05
    while True:
        try:
            return action()
        except Exception as exc:
            if not is_away(exc) or time.monotonic() + pause > give_up:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 2.0)


def explain(exc: Exception) -> StoreError:
    """The error of PostgreSQL in words that say what to do."""
    if isinstance(exc, pg_errors.UndefinedTable | pg_errors.InvalidSchemaName | pg_errors.UndefinedColumn):
        return StoreError("The tables of cgk_tasks are missing or old in this database. Run: cgk-tasks migrate")
    return StoreError(f"PostgreSQL refused or cannot be reached: {str(exc).strip()}. Check it with: cgk-tasks doctor")
