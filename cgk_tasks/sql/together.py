"""Several statements of one transaction, sent to PostgreSQL in one round trip.

Unlike a text of several statements they have values, and are prepared. Each is executed only if those before it were
done: what follows an error, be it a COMMIT, is skipped. The transaction that is open then waits for its rollback.

This talks to libpq itself: psycopg's own pipelines cost as much processor time as the statements one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import generators
from psycopg.pq import ExecStatus

from cgk_tasks.sql.direct import DONE, is_forgotten, text_of, until_sync, values_of
from cgk_tasks.sql.prepared import Prepared, prepared_on

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from cgk_tasks.sql.door import Connection
    from cgk_tasks.sql.statements import Statement


class Together(NamedTuple):
    """What PostgreSQL answered: the results of the statements that were done, and that of the one that failed."""

    done: list[PGresult]
    failed: PGresult | None

    @property
    def is_forgotten(self) -> bool:
        """Whether one failed only because PostgreSQL had let go of what was prepared."""
        return self.failed is not None and is_forgotten(self.failed)


class Sent:
    """A statement to send, with its values. Raises psycopg.DataError for a text that PostgreSQL cannot keep."""

    __slots__ = ("formats", "is_prepared", "label", "query", "values")

    def __init__(
        self, statement: Statement, values: Mapping[str, Any] | None = None, *, is_prepared: bool = True
    ) -> None:
        text = text_of(statement)
        self.label, self.query, self.is_prepared = statement.label, text.query, is_prepared
        self.values, self.formats = values_of(text, values or {})


def together(connection: Connection, statements: Sequence[Sent]) -> Together:
    """Send the statements and wait for all answers. Whoever is interrupted amid them finds the connection closed, and
    PostgreSQL has done all of them, or the first few. Raises psycopg.OperationalError where it is lost.
    """
    pgconn = connection.pgconn
    prepared = None if connection.prepare_threshold is None else prepared_on(connection)  # a PgBouncer keeps none
    news: list[bytes | None] = []
    try:
        pgconn.enter_pipeline_mode()
        for one in statements:
            if prepared is None or not one.is_prepared:
                pgconn.send_query_params(one.query, one.values, None, one.formats)
                news.append(None)
                continue
            name, is_new = prepared.name(one.label)
            if is_new:
                pgconn.send_prepare(name, one.query)
            pgconn.send_query_prepared(name, one.values, one.formats)
            news.append(name if is_new else None)
        pgconn.pipeline_sync()
        if pgconn.flush():
            connection.wait(generators.send(pgconn))
        results = connection.wait(until_sync(pgconn))
        pgconn.exit_pipeline_mode()
    except BaseException:
        connection.close()  # nobody can tell which answer would be next
        raise
    return _sorted(prepared, news, results)


def _sorted(prepared: Prepared | None, news: Sequence[bytes | None], results: list[PGresult]) -> Together:
    """Apart from the answers to what was prepared."""
    done: list[PGresult] = []
    answers = iter(results)
    for name in news:
        result = next(answers)
        if name is not None and prepared is not None and result.status == ExecStatus.COMMAND_OK:
            prepared.names.add(name)
            result = next(answers)
        if result.status not in DONE:
            return Together(done, result)
        done.append(result)
    return Together(done, None)
