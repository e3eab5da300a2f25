"""The connections to PostgreSQL of this process, and the SQL statements by name.

Every statement lives in a `.sql` file under `cgk_tasks/sql/`, in blocks that begin with `-- name: NAME`.
SQLAlchemy is not imported here: workers and senders that do not use it need not load it.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar, Union

import psycopg
from psycopg import errors as pg_errors
from psycopg import generators
from psycopg.pq import ExecStatus
from psycopg.rows import dict_row

from cgk_tasks.config import get_settings
from cgk_tasks.errors import StoreError
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql import connecting
from cgk_tasks.sql.connecting import CONNECT_WITH, OF_THE_RECORD, connect
from cgk_tasks.sql.pool import Pool
from cgk_tasks.sql.urls import parameters

if TYPE_CHECKING:
    import sqlalchemy as sa
    from psycopg.pq.abc import PGresult

Row = dict[str, Any]
Connection = connecting.Connection
AnyConnection = Union[Connection, "sa.Connection"]
T = TypeVar("T")

_BLOCK = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def statements(file: str) -> Mapping[str, str]:
    """The named statements of one `.sql` file."""
    text = files("cgk_tasks.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")
    parts = _BLOCK.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _new_pool() -> Pool:
    settings = get_settings()
    values = CONNECT_WITH | parameters(settings.database)

    def connect_now() -> Connection:
        return connect(values, OF_THE_RECORD, prepare_threshold=settings.prepare_threshold or None, autocommit=True)

    return Pool(connect_now)


POOL = Part(_new_pool, close=Pool.close)

_with_the_pool: list[Part[Any]] = []


def close_with_pools(part: Part[T]) -> Part[T]:
    """Have a part with connections to PostgreSQL closed whenever the pool is."""
    _with_the_pool.append(part)
    return part


def open_connections() -> int:
    """How many connections to PostgreSQL the pool has, idle ones included."""
    return POOL.current().size


def close_pools() -> None:
    """Close every connection of the current runtime: the idle ones now, the others after their use."""
    runtime = current_runtime()
    for part in (POOL, *_with_the_pool):
        runtime.drop(part)


class _Borrowed(AbstractContextManager[Connection]):
    """A connection for the length of a block. A class, because a generator would cost as much as the rest."""

    __slots__ = ("_place", "_pool")

    def __enter__(self) -> Connection:
        self._pool = POOL.current()
        self._place = self._pool.take()
        return self._place.connection

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        broken = kind is not None and issubclass(kind, psycopg.OperationalError)
        self._pool.give_back(self._place, broken=broken)
        del self._place


def autocommit() -> AbstractContextManager[Connection]:
    """A connection on which every statement is its own transaction: one round trip each."""
    return _Borrowed()


@contextmanager
def transaction() -> Iterator[Connection]:
    """A connection in one transaction: commits at the end, rolls back on an exception."""
    with autocommit() as connection, connection.transaction():
        yield connection


_FLUSH = b"SELECT pg_logical_emit_message(true, 'cgk_tasks', '')"
"""The shortest transaction that waits for the disk, and so for all that was committed before it."""


def flush(connection: Connection) -> None:
    """Wait until all that was committed before is on disk. Raises psycopg.Error."""
    script(connection, _FLUSH)


def script(connection: Connection, text: bytes) -> list[PGresult]:
    """Run several statements without parameters in one round trip. Raises psycopg.Error."""
    connection.pgconn.send_query(text)
    return _results(connection)


def _results(connection: Connection) -> list[PGresult]:
    results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
    for result in results:
        if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            raise pg_errors.error_from_result(result)
    return results


@contextmanager
def flushing(connection: Connection) -> Iterator[None]:
    """PostgreSQL writes to disk, while the block runs, what was committed on the connection without waiting for it.

    All of it is there when the block ends. Raises psycopg.Error.
    """
    connection.pgconn.send_query(_FLUSH)
    try:
        yield
    finally:
        _results(connection)


def fetch(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """Run one statement and return its rows as dictionaries.

    The connection is one of ours, or the SQLAlchemy connection under a caller's session (sync, or an
    AsyncSession inside `run_sync`).
    """
    if not isinstance(connection, psycopg.Connection):
        result = connection.exec_driver_sql(statement, dict(values or {}))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def fetch_tuples(connection: AnyConnection, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Like `fetch`, for the statements of every run: no dictionary, and no look at the columns' names."""
    if not isinstance(connection, psycopg.Connection):
        return [tuple(row) for row in connection.exec_driver_sql(statement, dict(values))]
    with connection.cursor() as cursor:
        return cursor.execute(statement, values).fetchall()


def execute(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None = None) -> int:
    """Run one statement and return how many rows it touched."""
    if not isinstance(connection, psycopg.Connection):
        return connection.exec_driver_sql(statement, dict(values or {})).rowcount
    return connection.execute(statement, values).rowcount


def is_away(exc: BaseException) -> bool:
    """Whether the exception says that PostgreSQL cannot be reached right now (a later try may work)."""
    if isinstance(cause := getattr(exc, "orig", None), BaseException):
        return is_away(cause)  # SQLAlchemy's exceptions carry the driver's
    # A server that only reads for now: a standby amid a failover, or maintenance.
    of_connection = psycopg.OperationalError | psycopg.InterfaceError | pg_errors.ReadOnlySqlTransaction
    return isinstance(exc, of_connection) and not isinstance(
        exc,
        pg_errors.InvalidCatalogName | pg_errors.InvalidPassword | pg_errors.QueryCanceled | pg_errors.LockNotAvailable,
    )


def retry_while_unavailable(action: Callable[[], T], patience_seconds: float) -> T:
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


def retry_conflicts(action: Callable[[], T], tries: int = 5) -> T:
    """Call `action`, a whole transaction, again when PostgreSQL rolled it back in favour of another one."""
    for _ in range(tries - 1):
        try:
            return action()
        except (pg_errors.SerializationFailure, pg_errors.DeadlockDetected):
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - no secret
    return action()


def explain(exc: Exception) -> StoreError:
    """The error of PostgreSQL in words that say what to do."""
    if isinstance(exc, pg_errors.UndefinedTable | pg_errors.InvalidSchemaName | pg_errors.UndefinedColumn):
        return StoreError("The tables of cgk_tasks are missing or old in this database. Run: cgk-tasks migrate")
    if isinstance(exc, pg_errors.ReadOnlySqlTransaction):
        return StoreError(
            "PostgreSQL takes no writes now: it is a standby, or default_transaction_read_only is on. Try again when that is "
            "over; if it stays, let CGK_DATABASE_URL name the primary."
        )
    return StoreError(f"PostgreSQL refused or cannot be reached: {str(exc).strip()}. Check it with: cgk-tasks doctor")
