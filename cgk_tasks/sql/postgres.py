"""The connections to PostgreSQL of this process.

The statements are in `cgk_tasks.sql.statements`, and run through `cgk_tasks.sql.door`; what most callers need of both
is here as well. SQLAlchemy is not imported here: workers and senders that do not use it need not load it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import errors as pg_errors
from psycopg import generators
from psycopg.pq import ExecStatus

from cgk_tasks.config import Settings, get_settings
from cgk_tasks.errors import StoreError
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql.connecting import CONNECT_WITH, OF_THE_RECORD, Preparing, connect
from cgk_tasks.sql.direct import is_outdated
from cgk_tasks.sql.door import AnyConnection, Connection, Row, copy, execute, fetch, fetch_as, fetch_directly, glance
from cgk_tasks.sql.piped import FLUSH
from cgk_tasks.sql.pool import Pool
from cgk_tasks.sql.statements import statements
from cgk_tasks.sql.urls import parameters

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = [
    "AnyConnection", "Connection", "Row", "autocommit", "close_pools", "close_with_pools", "copy",
    "execute", "explain", "fetch", "fetch_as", "fetch_directly", "fetch_or_before", "flush", "glance", "is_away",
    "open_connections", "parameters", "retry_while_unavailable", "script", "statements", "transaction", "uuid_array",
]  # fmt: skip

T = TypeVar("T")


def preparing(settings: Settings) -> Preparing:
    """When statements are prepared. PgBouncer keeps them only if it is new and told to, which the setting then says."""
    threshold = settings.prepare_threshold or None
    return Preparing(threshold, threshold if "prepare_threshold" in settings.model_fields_set else None)


def _new_pool() -> Pool:
    settings = get_settings()
    values = CONNECT_WITH | parameters(settings.database)

    def connect_now() -> Connection:
        return connect(values, OF_THE_RECORD, preparing=preparing(settings), autocommit=True)

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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        broken = kind is not None and issubclass(kind, psycopg.OperationalError)
        if kind is not None and is_outdated(error):
            broken = True
            self._pool.close_idle()  # they have prepared the same
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


@contextmanager
def short_transaction(idle_seconds: int = 5, *, lock_seconds: float | None = None) -> Iterator[Connection]:
    """A transaction of background work, for whose locks other processes may wait. If this process hangs amid it,
    PostgreSQL ends it after so many seconds: more of them where work of its own or an application's hooks lie between
    two statements.

    lock_seconds: how long a statement waits for a lock of somebody else, who may keep it for hours. Then psycopg's
    LockNotAvailable is raised. None: without end.
    """
    begin = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{idle_seconds:d}s'"
    if lock_seconds is not None:
        begin += f"; SET LOCAL lock_timeout = '{lock_seconds * 1000:.0f}ms'"
    with autocommit() as connection:
        # In one round trip, as these are many. Blocks of the driver inside of it are savepoints, as in its own.
        script(connection, begin.encode())
        try:
            yield connection
        except BaseException:
            with suppress(psycopg.Error):  # the error that there was says more
                connection.rollback()
            raise
        connection.commit()


def flush(connection: Connection) -> None:
    """Wait until all that was committed before is on disk. Raises psycopg.Error."""
    script(connection, FLUSH)


def script(connection: Connection, text: bytes) -> list[PGresult]:
    """Run several statements without parameters in one round trip. Raises psycopg.Error."""
    connection.pgconn.send_query(text)
    results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
    for result in results:
        if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            raise pg_errors.error_from_result(result)
    return results


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


def is_not_migrated(exc: BaseException) -> bool:
    """Whether a statement of cgk_tasks failed because its tables are not there, or are those of an older version."""
    return isinstance(exc, pg_errors.UndefinedTable | pg_errors.InvalidSchemaName | pg_errors.UndefinedColumn)


def fetch_or_before(
    connection: AnyConnection, statement: str, before: str, values: Mapping[str, Any] | None = None
) -> list[Row]:
    """What the statement gives; or `before`, in a database that has not been migrated to the end yet. Not for use in a
    transaction, which the first one's error would end.
    """
    try:
        return fetch(connection, statement, values)
    except psycopg.Error as exc:
        if not is_not_migrated(exc):
            raise
    return fetch(connection, before, values)


def uuid_array(ids: Iterable[str]) -> str:
    """A parameter for uuid[], for the statements of packets: psycopg looks at each character of a list of texts."""
    return f"{{{','.join(ids)}}}"


def explain(exc: Exception) -> StoreError:
    """The error of PostgreSQL in words that say what to do."""
    if is_not_migrated(exc):
        return StoreError("The tables of cgk_tasks are missing or old in this database.", hint="Run: cgk-tasks migrate")
    if isinstance(exc, pg_errors.ReadOnlySqlTransaction):
        return StoreError(
            "PostgreSQL takes no writes now: it is a standby, or default_transaction_read_only is on.",
            hint="Try again when that is over; if it stays, let CGK_DATABASE_URL name the primary.",
        )
    return StoreError(
        f"PostgreSQL refused or cannot be reached: {str(exc).strip()}.", hint="Check it with: cgk-tasks doctor"
    )
