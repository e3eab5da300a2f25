"""The connections to PostgreSQL of this process, and the SQL statements by name.

Every statement lives in a `.sql` file under `cgk_tasks/sql/`, in blocks that begin with `-- name: NAME`.
SQLAlchemy is not imported here: workers and senders that do not use it need not load it.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar, Union

import psycopg
from psycopg import errors as pg_errors
from psycopg import generators
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import dict_row

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from psycopg.pq.abc import PGresult

Row = dict[str, Any]
Connection = psycopg.Connection[Any]
AnyConnection = Union[Connection, "sa.Connection"]
T = TypeVar("T")

_BLOCK = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_URL = re.compile(r"postgres(?:ql)?(?:\+\w+)?://(.*)", re.DOTALL)

_KEPT_IDLE = 5
CONNECTIONS_LIMIT = 45
"""So many connections one process may have; those above the first few are closed after use."""
_WAIT_SECONDS = 30.0


@cache
def statements(file: str) -> Mapping[str, str]:
    """The named statements of one `.sql` file."""
    text = files("cgk_tasks.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")
    parts = _BLOCK.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def parameters(url: str) -> dict[str, Any]:
    """What libpq connects with, whatever driver the URL names. Raises ConfigurationError."""
    rest = _URL.fullmatch(url)
    if rest is None:
        kind = url.partition("://")[0] if "://" in url else None
        if kind is None:
            raise ConfigurationError("CGK_DATABASE_URL is not a URL like postgresql://user:password@host/name")
        raise ConfigurationError(f"CGK_DATABASE_URL names {kind.partition('+')[0]}; only PostgreSQL works.")
    try:
        found = conninfo_to_dict(f"postgresql://{rest[1]}")
        for port in str(found.get("port") or 0).split(","):
            int(port)
        return found
    except (psycopg.ProgrammingError, ValueError):
        # Without the driver's words: they repeat the URL, and with it the password.
        raise ConfigurationError(
            "CGK_DATABASE_URL is not a URL like postgresql://user:password@host/name.",
            hint="Are special characters in the password written as %XX?",
        ) from None


class _Pool:
    """The connections of one process: the one used last is taken first, so that its prepared statements stay warm."""

    def __init__(self, url: str) -> None:
        defaults: dict[str, Any] = {"connect_timeout": 5, "application_name": "cgk_tasks"}
        self._parameters = make_conninfo(**defaults | parameters(url))
        self._idle: deque[Connection] = deque()
        self._free = threading.BoundedSemaphore(CONNECTIONS_LIMIT)

    def take(self) -> Connection:
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise psycopg.OperationalError(
                f"All {CONNECTIONS_LIMIT} connections of this process have been in use for {_WAIT_SECONDS:g} s."
            )
        try:
            while self._idle:
                connection = self._idle.pop()
                if is_open(connection):
                    return connection
                connection.close()
        except IndexError:
            pass  # another thread took the last one
        try:
            return psycopg.connect(self._parameters, autocommit=True)
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: Connection, *, broken: bool) -> None:
        clean = not broken and connection.pgconn.transaction_status == TransactionStatus.IDLE
        if clean and len(self._idle) < _KEPT_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        self._free.release()

    @property
    def size(self) -> int:
        """Connections that are open, in use or idle."""
        return CONNECTIONS_LIMIT - self._free._value + len(self._idle)  # noqa: SLF001 - the semaphore's own count

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def is_open(connection: Connection) -> bool:
    """An idle connection with something to read was closed by PostgreSQL.

    A look at the socket costs a microsecond, a `SELECT 1` as much as a statement.
    """
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


_pools: dict[tuple[int, str], _Pool] = {}
"""By process and URL: a child never uses a connection (or a lock) that it inherited over fork."""

_closers: list[Callable[[], None]] = []


def _pool() -> _Pool:
    key = os.getpid(), get_settings().database
    return _pools.get(key) or _pools.setdefault(key, _Pool(key[1]))


def close_with_pools(close: Callable[[], None]) -> None:
    """Have `close` called whenever this process closes its connections."""
    _closers.append(close)


def open_connections() -> int:
    """How many connections to PostgreSQL this process has, idle ones included."""
    return _pool().size


def close_pools() -> None:
    """Close every idle connection of this process."""
    for pid, url in list(_pools):
        pool = _pools.pop((pid, url))
        if pid == os.getpid():
            pool.close()
    for close in _closers:
        close()


class _Borrowed(AbstractContextManager[Connection]):
    """A connection for the length of a block. A class, because a generator would cost as much as the rest."""

    __slots__ = ("_connection", "_pool")

    def __enter__(self) -> Connection:
        self._pool = _pool()
        self._connection = self._pool.take()
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        broken = kind is not None and issubclass(kind, psycopg.OperationalError)
        self._pool.give_back(self._connection, broken=broken)


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
    return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(
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


def explain(exc: Exception) -> StoreError:
    """The error of PostgreSQL in words that say what to do."""
    if isinstance(exc, pg_errors.UndefinedTable | pg_errors.InvalidSchemaName | pg_errors.UndefinedColumn):
        return StoreError("The tables of cgk_tasks are missing or old in this database.", hint="Run: cgk-tasks migrate")
    return StoreError(
        f"PostgreSQL refused or cannot be reached: {str(exc).strip()}.", hint="Check it with: cgk-tasks doctor"
    )
