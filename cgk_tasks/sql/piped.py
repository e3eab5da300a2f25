"""One statement and the wait for the disk behind it, sent to PostgreSQL together.

PostgreSQL commits the statement, answers, and goes on to the disk without being asked again. So whoever sent it works
with the first answer while the disk writes. Only for statements that commit with `synchronous_commit = off`.

This talks to libpq itself: psycopg's own pipelines give no answer before all of them are there, and cost more.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import errors as pg_errors
from psycopg import generators
from psycopg.pq import ExecStatus, Format

from cgk_tasks.sql import door
from cgk_tasks.sql.direct import DONE, is_outdated, text_of, until_sync, values_of
from cgk_tasks.sql.door import Connection
from cgk_tasks.sql.prepared import prepared_on
from cgk_tasks.sql.statements import Statement

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

FLUSH: Final = b"SELECT pg_logical_emit_message(true, 'cgk_tasks', '')"
"""The shortest transaction that waits for the disk, and so for all that was committed before it."""

_BOTH: Final = 2


class Piped:
    """A statement that is on its way, with the flush behind it. The end of the block waits for the disk.

        with piped(connection, SQL["insert"], values) as sent:
            ...  # while PostgreSQL executes it
            sent.done()
            ...  # while the disk writes

    Both waits raise psycopg.Error.
    """

    __slots__ = ("_connection", "_is_amid", "_result", "_statement", "_unanswered", "_values")

    def __init__(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> None:
        self._connection, self._statement, self._values = connection, statement, values
        self._result: PGresult | None = None
        self._unanswered: list[bytes | None] = []
        """The two transactions, or the second one, each with the name under which its statement was prepared in it."""
        self._is_amid = False
        """Whether something is being sent or read. Who is interrupted then reads no more: the pool closes that."""
        self._send()

    def __enter__(self) -> Self:
        return self

    def done(self) -> PGresult:
        """What the statement gave, once it is committed and everybody sees it."""
        if self._result is None:
            try:
                self._result = self._next()
            except (pg_errors.InvalidSqlStatementName, pg_errors.FeatureNotSupported) as exc:
                if isinstance(exc, pg_errors.FeatureNotSupported) and not is_outdated(exc):
                    raise
                with suppress(psycopg.Error):  # it was prepared and is no more, so nothing has happened
                    self._next()
                prepared_on(self._connection).forget()
                self._send()
                self._result = self._next()
        return self._result

    def __exit__(self, *_exception: object) -> None:
        """Also where the block has raised: an answer that nobody reads would cost the connection."""
        try:
            if len(self._unanswered) == _BOTH and not self._is_amid:
                self.done()
        finally:
            if self._unanswered and not self._is_amid:
                self._flushed()

    def _flushed(self) -> None:
        try:
            self._next()
        except pg_errors.InvalidSqlStatementName:
            prepared_on(self._connection).forget()
            self._connection.pgconn.send_query(FLUSH)
            _last(self._connection.wait(generators.execute(self._connection.pgconn)))

    def _send(self) -> None:
        connection, pgconn, text = self._connection, self._connection.pgconn, text_of(self._statement)
        written, formats = values_of(text, self._values)
        self._is_amid = True
        self._unanswered.clear()
        pgconn.enter_pipeline_mode()
        if connection.prepare_threshold is None:  # behind a PgBouncer that keeps no statements
            pgconn.send_query_params(text.query, written, param_formats=formats)
            pgconn.pipeline_sync()
            pgconn.send_query_params(FLUSH, [])
            self._unanswered += (None, None)
        else:
            self._send_prepared(self._statement.label, text.query, written, formats)
            pgconn.pipeline_sync()
            self._send_prepared("flush", FLUSH, [], [])
        pgconn.pipeline_sync()
        if pgconn.flush():
            connection.wait(generators.send(pgconn))
        self._is_amid = False

    def _send_prepared(self, label: str, query: bytes, values: list[bytes | None], formats: list[Format]) -> None:
        pgconn = self._connection.pgconn
        name, is_new = prepared_on(self._connection).name(label)
        if is_new:
            pgconn.send_prepare(name, query)
        pgconn.send_query_prepared(name, values, formats)
        self._unanswered.append(name if is_new else None)

    def _next(self) -> PGresult:
        """The result of what is answered next."""
        connection, pgconn = self._connection, self._connection.pgconn
        if not self._unanswered:
            raise psycopg.InterfaceError("Nothing is left to be answered: the statement has failed before.")
        self._is_amid = True
        try:
            results = connection.wait(until_sync(pgconn))
        except psycopg.OperationalError:
            self._unanswered.clear()  # nothing more comes
            raise
        name = self._unanswered.pop(0)
        if not self._unanswered:
            pgconn.exit_pipeline_mode()
        if name is not None and results[0].status == ExecStatus.COMMAND_OK:
            prepared_on(connection).names.add(name)  # also where the statement itself fails
        self._is_amid = False
        return _last(results)


def piped(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> Piped:
    """Send a statement, and the flush behind it. Where statements are observed this waits for its answer, too."""
    if door.are_observed():
        return door.observed(_answered, connection, statement, values)
    return Piped(connection, statement, values)


def _answered(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> Piped:
    sent = Piped(connection, statement, values)
    try:
        sent.done()
    except BaseException:
        with suppress(psycopg.Error):  # the first error says what is wrong
            sent.__exit__()
        raise
    return sent


def _last(results: list[PGresult]) -> PGresult:
    for result in results:
        if result.status not in DONE:
            raise pg_errors.error_from_result(result)
    return results[-1]
