"""The connections to PostgreSQL of this process.

The statements are in `cgk_tasks.sql.statements`, and run through `cgk_tasks.sql.door`; what most callers need of both is
here as well. SQLAlchemy is not imported here: workers and senders that do not use it need not load it.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import errors as pg_errors
from psycopg import generators
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus, TransactionStatus

from cgk_tasks.config import get_settings
from cgk_tasks.errors import StoreError
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql.door import AnyConnection, Connection, Row, copy, execute, fetch, fetch_as
from cgk_tasks.sql.statements import statements
from cgk_tasks.sql.urls import parameters

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = [
    "CONNECTIONS_LIMIT", "AnyConnection", "Connection", "Row", "autocommit", "close_pools", "close_with_pools", "copy",
    "execute", "explain", "fetch", "fetch_as", "flush", "flushing", "is_away", "is_open", "open_connections",
    "parameters", "retry_while_unavailable", "script", "statements", "transaction",
]  # fmt: skip

T = TypeVar("T")


CONNECT_WITH: Final[dict[str, Any]] = {"connect_timeout": 5, "application_name": "cgk_tasks"}
"""Unless the URL says otherwise."""
_KEPT_IDLE = 5
CONNECTIONS_LIMIT = 45
"""So many connections one process may have; those above the first few are closed after use."""
_WAIT_SECONDS = 30.0


class _Pool:
    """The connections of one process: the one used last is taken first, so that its prepared statements stay warm."""

    def __init__(self, url: str) -> None:
        self._parameters = make_conninfo(**CONNECT_WITH | parameters(url))
        self._idle: deque[Connection] = deque()
        self._keep = _KEPT_IDLE
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
        if clean and len(self._idle) < self._keep:
            self._idle.append(connection)
        else:
            connection.close()
        self._free.release()

    @property
    def size(self) -> int:
        """Connections that are open, in use or idle."""
        return CONNECTIONS_LIMIT - self._free._value + len(self._idle)  # noqa: SLF001 - the semaphore's own count

    def close(self) -> None:
        self._keep = 0
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


POOL = Part(lambda: _Pool(get_settings().database), close=_Pool.close)

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

    __slots__ = ("_connection", "_pool")

    def __enter__(self) -> Connection:
        self._pool = POOL.current()
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
