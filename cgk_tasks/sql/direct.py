"""Statements that go to libpq itself, prepared, past the driver's cursor.

For the few that are run for each run. psycopg looks at a statement's text, at the type of each value and of each column
at every execution, for two thirds of the processor time that a short statement takes in Python. Here a statement is
prepared the first time, and says the types of its values by itself (`%(id)s::uuid`).

The driver's loop waits for the answer, so signals and Ctrl-C interrupt it. Who is interrupted leaves a connection that
is not at rest, which the pool closes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import errors, generators
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.waiting import Wait

from cgk_tasks.sql import far_times
from cgk_tasks.sql.prepared import Prepared, prepared_on

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

    from cgk_tasks.sql.statements import Statement

Connection = psycopg.Connection[Any]

_PARAMETER: Final = re.compile(r"%\((\w+)\)[sbt]")
DONE: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})
_NOT_PREPARED: Final = b"26000"
_CHECKS_PLANS: Final = "RevalidateCachedQuery"
"""What PostgreSQL calls the function that finds a prepared statement of which a migration has changed the columns, or
their types. Its message is in the server's language, and its code is that of much else.
"""
_TEXT, _BINARY = Format.TEXT, Format.BINARY  # an enum finds its members slowly


class Text(NamedTuple):
    """A statement as libpq takes it. names: of its parameters, in the order of their numbers."""

    query: bytes
    names: tuple[str, ...]


@cache
def text_of(statement: Statement) -> Text:
    names = tuple(dict.fromkeys(_PARAMETER.findall(statement)))
    query = _PARAMETER.sub(lambda use: f"${names.index(use[1]) + 1}", statement)
    return Text(query.encode(), names)


def written(value: object) -> bytes | None:
    """A value as PostgreSQL reads it where the statement says its type. Bytes are taken as they are, for that type's
    binary format: a bytea's own, or an array's that somebody has written. Raises psycopg.DataError for a text that
    PostgreSQL cannot keep.
    """
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):  # also an application's own kind of text, which the driver takes too
        if "\0" in value:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return str.encode(value)
    if isinstance(value, float):
        return float.__repr__(value).encode()
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value).encode()
    if isinstance(value, datetime):
        return value.isoformat().encode()
    raise TypeError(f"no parameter of a statement that goes to libpq: {type(value).__name__}")


class Values(NamedTuple):
    """The values of a statement in the order of their numbers, and the format of each."""

    written: list[bytes | None]
    formats: list[Format]


def values_of(text: Text, values: Mapping[str, Any]) -> Values:
    in_order: list[bytes | None] = []
    formats: list[Format] = []
    for name in text.names:
        value = values[name]
        if value is None or type(value) is bytes:
            in_order.append(value)
        elif type(value) is str and "\0" not in value:
            in_order.append(value.encode())
        else:
            in_order.append(written(value))
        formats.append(_BINARY if type(value) is bytes else _TEXT)
    return Values(in_order, formats)


def is_possible(connection: Connection) -> bool:
    """Whether a statement can go this way: it is a transaction by itself. What a rollback has made PostgreSQL forget
    would else be noticed by an error that ends the transaction.
    """
    return connection.autocommit and connection.pgconn.transaction_status == TransactionStatus.IDLE


def run(
    connection: Connection, statement: Statement, values: Mapping[str, Any], result_format: Format = Format.BINARY
) -> PGresult:
    """What PostgreSQL answers. Raises psycopg.Error."""
    text = text_of(statement)
    given = values_of(text, values)
    result = _answer(connection, statement.label, text.query, given, result_format)
    if result.status not in DONE:
        raise errors.error_from_result(result)
    return result


def _answer(connection: Connection, label: str, query: bytes, given: Values, result_format: Format) -> PGresult:
    pgconn = connection.pgconn
    if connection.prepare_threshold is None:  # behind a PgBouncer that keeps no statements
        pgconn.send_query_params(query, given.written, None, given.formats, result_format)
        return _last_of(connection)
    prepared = prepared_on(connection)
    for _ in range(2):
        name, is_new = prepared.name(label)
        if is_new:
            made = _prepare(connection, prepared, name, query)
            if made.status not in DONE:
                return made
        pgconn.send_query_prepared(name, given.written, given.formats, result_format)
        result = _last_of(connection)
        if not is_forgotten(result):
            break
        prepared.forget()  # the driver had PostgreSQL forget all that was prepared; nothing has happened
    return result


def _prepare(connection: Connection, prepared: Prepared, name: bytes, query: bytes) -> PGresult:
    connection.pgconn.send_prepare(name, query)
    made = _last_of(connection)
    if made.status in DONE:
        prepared.names.add(name)
    return made


def _last_of(connection: Connection) -> PGresult:
    results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
    return results[-1]


def is_forgotten(result: PGresult) -> bool:
    """Whether a statement failed because what was prepared is not there any more, or is of tables as they were, so that
    nothing has happened.
    """
    return result.status not in DONE and (
        result.error_field(DiagnosticField.SQLSTATE) == _NOT_PREPARED
        or result.error_field(DiagnosticField.SOURCE_FUNCTION) == _CHECKS_PLANS.encode()
    )


def is_outdated(error: BaseException | None) -> bool:
    """Whether a statement was refused because it was prepared for tables as they were. On its connection that does not
    change any more.
    """
    return isinstance(error, errors.FeatureNotSupported) and error.diag.source_function == _CHECKS_PLANS


def until_sync(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """The results up to the next sync of a pipeline. Without the driver's generator for each of them, which costs more
    than the result. Raises psycopg.OperationalError where the connection is lost.
    """
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            while not (yield Wait.R):
                pass  # it looks at a Ctrl-C now and then
            try:
                pgconn.consume_input()
            except psycopg.OperationalError as exc:
                raise _why_lost(results, exc) from None
        result = pgconn.get_result()
        if result is None:  # between two statements
            if pgconn.status == ConnStatus.BAD:
                raise _why_lost(results, psycopg.OperationalError(pgconn.get_error_message()))
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _why_lost(results: Sequence[PGresult], error: psycopg.OperationalError) -> psycopg.Error:
    """What PostgreSQL has said before it closed the connection, such as that a time was over; else this error."""
    said = next((result for result in results if result.status == ExecStatus.FATAL_ERROR), None)
    return error if said is None else errors.error_from_result(said)


def columns_of(result: PGresult) -> list[str]:
    """The names of the columns."""
    return [(result.fname(number) or b"").decode() for number in range(result.nfields)]


def rows_of(connection: Connection, result: PGresult) -> Sequence[tuple[Any, ...]]:
    """The rows, read by the driver's own loaders. A time that Python cannot hold is the nearest one that it can."""
    transformer = Transformer(connection)
    transformer.set_pgresult(result)
    try:
        return transformer.load_rows(0, result.ntuples, tuple)
    except psycopg.DataError:
        return far_times.rows(result, connection)
