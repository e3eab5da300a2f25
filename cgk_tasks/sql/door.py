"""The one door to PostgreSQL for the statements of the `.sql` files: it knows their names.

Whoever wants to know how long statements take adds an observer. While there is none, a statement costs one look more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, Union

import psycopg
from psycopg.pq import Format
from psycopg.rows import tuple_row

from cgk_tasks.sql import direct, far_times
from cgk_tasks.sql.copying import blocks
from cgk_tasks.sql.statements import Statement

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = dict[str, Any]
Connection = psycopg.Connection[Any]
AnyConnection = Union[Connection, "sa.Connection"]
T = TypeVar("T")
P = ParamSpec("P")

Observer = Callable[[Statement, float, BaseException | None], None]
"""Called after each statement, with the seconds that it took and the exception that it raised, if it did."""

Guard = Callable[[Statement, Any], None]
"""Called before each statement, with its values. What it raises keeps the statement from PostgreSQL."""

Reading = Callable[[Sequence[str]], Callable[[tuple[Any, ...]], T]]
"""Given the names of a statement's columns, returns what makes an object of each row."""

_observers: list[Observer] = []
_guards: Final[dict[Observer, Guard]] = {}
_readers: Final[dict[tuple[str, Reading[Any]], Callable[[tuple[Any, ...]], Any]]] = {}


def observe(observer: Observer, before: Guard | None = None) -> None:
    """Have `observer` called after each statement of this process, and of those that it forks. Twice is once.

    before: called before each of them, for tests of a process that dies.
    """
    if before is not None:
        _guards[observer] = before
    if observer not in _observers:
        _observers.append(observer)


def forget_observer(observer: Observer) -> None:
    """Call it no more."""
    if observer in _observers:
        _observers.remove(observer)
    _guards.pop(observer, None)


def are_observed() -> bool:
    """Whether somebody wants to know of each statement."""
    return bool(_observers)


def are_guarded() -> bool:
    """Whether somebody may keep statements from PostgreSQL, each of them by itself."""
    return bool(_guards)


def observed(
    run: Callable[[Connection, Any, Mapping[str, Any]], T],
    connection: Connection,
    statement: Statement,
    values: Mapping[str, Any],
) -> T:
    """Call `run` with the rest, as one statement."""
    return _observed(run, connection, statement, values)


def fetch(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """Run one statement and return its rows as dictionaries.

    The connection is one of ours, or the SQLAlchemy connection under a caller's session (sync, or an
    AsyncSession inside `run_sync`).
    """
    if _observers:
        return _observed(_fetch, connection, statement, values)
    return _fetch(connection, statement, values)


def fetch_as(
    connection: AnyConnection, statement: str, values: Mapping[str, Any] | None, reading: Reading[T]
) -> list[T]:
    """Like `fetch`, for the statements of every run: no dictionary, and the columns' names are looked at once."""
    if _observers:
        return _observed(_fetch_as, connection, statement, values, reading)
    return _fetch_as(connection, statement, values, reading)


def fetch_directly(
    connection: AnyConnection, statement: Statement, values: Mapping[str, Any], reading: Reading[T]
) -> list[T]:
    """Like `fetch_as`, for the statements of a lone run: by libpq itself, which takes a third of the processor time.

    Values are texts, numbers, times, None, and bytes in the binary format of what the statement says they are. Inside a
    transaction it is `fetch_as`. Raises psycopg.Error.
    """
    if _observers:
        return _observed(_fetch_directly, connection, statement, values, reading)
    return _fetch_directly(connection, statement, values, reading)


def execute(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None = None) -> int:
    """Run one statement and return how many rows it touched."""
    if _observers:
        return _observed(_execute, connection, statement, values)
    return _execute(connection, statement, values)


def glance(connection: Connection, statement: Statement) -> tuple[str | None, ...]:
    """Run a statement without parameters that gives one row, and return what PostgreSQL writes its columns as: 't' and
    'f', or a number's digits. For who looks several times a second while nothing happens: it takes a third of the
    processor time of `fetch`. Raises psycopg.Error.
    """
    if _observers:
        return _observed(_glance, connection, statement, None)
    return _glance(connection, statement, None)


def copy(connection: Connection, statement: str, rows: Iterable[bytes]) -> None:
    """Write rows by a statement COPY … FROM STDIN (FORMAT BINARY). rows: as `sql.copying` says."""
    _observed(_copy, connection, statement, rows)


def _observed(
    run: Callable[Concatenate[Any, Any, P], T], connection: Any, statement: str, *args: P.args, **kwargs: P.kwargs
) -> T:
    """A function and not a context manager, which would cost as much again as the observers do."""
    if _guards and isinstance(statement, Statement):
        for guard in list(_guards.values()):
            guard(statement, args[0] if args else None)
    error: BaseException | None = None
    begun = time.perf_counter()
    try:
        return run(connection, statement, *args, **kwargs)
    except BaseException as exc:
        error = exc
        raise
    finally:
        seconds = time.perf_counter() - begun
        if isinstance(statement, Statement):
            for observer in _observers:
                observer(statement, seconds, error)


def _copy(connection: Connection, statement: str, rows: Iterable[bytes]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copying:
        for block in blocks(rows):
            copying.write(block)


def _fetch(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None) -> list[Row]:
    columns, rows = _run(connection, statement, values)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _execute(connection: AnyConnection, statement: str, values: Mapping[str, Any] | None) -> int:
    if not isinstance(connection, psycopg.Connection):
        return connection.exec_driver_sql(statement, dict(values or {})).rowcount
    return connection.execute(statement, values).rowcount


def _fetch_as(
    connection: AnyConnection, statement: str, values: Mapping[str, Any] | None, reading: Reading[T]
) -> list[T]:
    if not isinstance(connection, psycopg.Connection):
        columns, rows = _run(connection, statement, values)
        return list(map(reading(columns), rows))
    # In the binary format, in which bytes are not written as digits, and times need not be parsed.
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        cursor.execute(statement, values)
        read = _readers.get((statement, reading))
        if read is None:
            read = _readers[statement, reading] = reading(_columns(cursor))
        return list(map(read, _rows(cursor)))


def _fetch_directly(
    connection: AnyConnection, statement: Statement, values: Mapping[str, Any], reading: Reading[T]
) -> list[T]:
    if not isinstance(connection, psycopg.Connection) or not direct.is_possible(connection):
        return _fetch_as(connection, statement, values, reading)
    result = direct.run(connection, statement, values)
    if not result.ntuples:
        return []
    read = _readers.get((statement, reading))
    if read is None:
        read = _readers[statement, reading] = reading(direct.columns_of(result))
    return list(map(read, direct.rows_of(connection, result)))


def _glance(connection: Connection, statement: Statement, _no_values: None) -> tuple[str | None, ...]:
    result = direct.run(connection, statement, {}, Format.TEXT)
    values = (result.get_value(0, column) for column in range(result.nfields))
    return tuple(None if value is None else value.decode() for value in values)


def _run(
    connection: AnyConnection, statement: str, values: Mapping[str, Any] | None
) -> tuple[Sequence[str], Sequence[tuple[Any, ...]]]:
    if not isinstance(connection, psycopg.Connection):
        return _run_in_session(connection, statement, values)
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(statement, values)
        columns = _columns(cursor)  # psycopg makes objects of them at each look
        return (columns, _rows(cursor)) if columns else ((), ())


def _run_in_session(
    connection: sa.Connection, statement: str, values: Mapping[str, Any] | None
) -> tuple[Sequence[str], Sequence[tuple[Any, ...]]]:
    result = connection.exec_driver_sql(statement, dict(values or {}))
    if not result.returns_rows:
        return (), ()
    cursor = result.cursor
    columns = list(result.keys())
    if isinstance(cursor, psycopg.Cursor):
        try:
            return columns, _rows(cursor)
        finally:
            result.close()
    return columns, [tuple(row) for row in result]  # an AsyncSession's, which has read the rows already


def _columns(cursor: psycopg.Cursor[Any]) -> list[str]:
    return [column.name for column in cursor.description or ()]


def _rows(cursor: psycopg.Cursor[Any]) -> list[tuple[Any, ...]]:
    try:
        return cursor.fetchall()
    except psycopg.DataError:
        if cursor.pgresult is None:
            raise
        return far_times.rows(cursor.pgresult, cursor.connection)
