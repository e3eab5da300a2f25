"""Statements of a lone run go to libpq itself: prepared the first time, with the errors and values of the driver."""

import contextlib
import signal
import struct
import uuid
from datetime import UTC, datetime
from enum import Enum, IntEnum

import psycopg
import pytest

from cgk_tasks.errors import JobTimeoutError
from cgk_tasks.jobs.time_limit import deadline
from cgk_tasks.sql import door
from cgk_tasks.sql.far_times import LATEST
from cgk_tasks.sql.pool import is_open
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch_directly, open_connections, transaction
from cgk_tasks.sql.statements import Statement

ECHO = Statement(
    "tests",
    "echo",
    "SELECT %(text)s::text AS text, %(number)s::int AS number, %(bytes)s::bytea AS bytes, %(at)s::timestamptz AS at,"
    " %(share)s::float8 AS share, %(text)s::text AS again",
)
VALUES = {"text": "ä ' \\", "number": 7, "bytes": b"\0\xff", "at": datetime(2026, 1, 2, tzinfo=UTC), "share": 0.1}
ONE = Statement("tests", "one", "SELECT 1 AS one")


def plain(_columns):
    return tuple


def named(columns):
    return lambda row: dict(zip(columns, row, strict=True))


@pytest.fixture
def connection(database):
    close_pools()
    with autocommit() as one:
        yield one


def one_of(connection):
    return fetch_directly(connection, ONE, {}, plain)


def prepared_on(connection):
    rows = connection.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'cgk_tasks.tests%'").fetchall()
    return [name for (name,) in rows]


def test_values_come_back_as_they_were_given(connection):
    assert fetch_directly(connection, ECHO, VALUES, named) == [VALUES | {"again": VALUES["text"]}]


class Code(str, Enum):  # noqa: UP042 - what a StrEnum would hide: its text is another than its value
    LATE = "late"


class Number(IntEnum):
    SEVEN = 7


def test_an_applications_own_kinds_of_text_and_number_are_what_they_stand_for(connection):
    (row,) = fetch_directly(connection, ECHO, VALUES | {"text": Code.LATE, "number": Number.SEVEN}, named)
    assert (row["text"], row["number"]) == ("late", 7)


def test_what_is_not_there_is_none(connection):
    nothing = dict.fromkeys(VALUES)
    assert fetch_directly(connection, ECHO, nothing, named) == [nothing | {"again": None}]


def test_bytes_are_the_binary_format_of_what_the_statement_says_they_are(connection):
    numbers = struct.pack(">iIIii", 1, 0, 23, 2, 1) + struct.pack(">iiii", 4, 5, 4, 6)  # int[] of two
    statement = Statement("tests", "numbers", "SELECT unnest(%(numbers)b::int[])")
    assert fetch_directly(connection, statement, {"numbers": numbers}, plain) == [(5,), (6,)]


def test_no_rows_are_none(connection):
    assert fetch_directly(connection, Statement("tests", "none", "SELECT 1 WHERE false"), {}, plain) == []


def test_a_time_that_python_cannot_hold_is_the_nearest_one(connection):
    statement = Statement("tests", "far", "SELECT 'infinity'::timestamptz")
    assert fetch_directly(connection, statement, {}, plain) == [(LATEST,)]


def test_a_text_that_postgresql_cannot_keep_is_refused_before_it_is_sent(connection):
    with pytest.raises(psycopg.DataError, match="NUL"):
        fetch_directly(connection, ECHO, VALUES | {"text": "a\0b"}, plain)
    assert one_of(connection) == [(1,)]


def test_a_value_of_another_kind_is_refused(connection):
    with pytest.raises(TypeError, match="UUID"):
        fetch_directly(connection, ECHO, VALUES | {"text": uuid.uuid4()}, plain)


def test_a_statement_that_is_refused_has_the_drivers_error_and_costs_no_connection(connection):
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        fetch_directly(connection, ECHO, VALUES | {"number": "seven"}, plain)
    with pytest.raises(psycopg.errors.UndefinedTable):
        fetch_directly(connection, Statement("tests", "absent", "SELECT FROM cgk.no_such_table"), {}, plain)
    assert one_of(connection) == [(1,)]


def test_a_statement_is_prepared_once(connection):
    assert [one_of(connection) for _ in range(3)] == [[(1,)]] * 3
    assert prepared_on(connection) == ["cgk_tasks.tests.one.0"]


def test_what_a_rollback_made_postgresql_forget_is_prepared_again(connection):
    one_of(connection)
    with contextlib.suppress(ZeroDivisionError), connection.transaction():
        connection.execute("SELECT 2", prepare=True)
        raise ZeroDivisionError
    connection.execute("SELECT 1")  # psycopg now lets go of all that is prepared
    assert prepared_on(connection) == []
    assert one_of(connection) == [(1,)]


def test_nothing_is_prepared_where_nothing_may_be(connection):
    connection.prepare_threshold = None
    assert fetch_directly(connection, ECHO, VALUES, named) == [VALUES | {"again": VALUES["text"]}]
    assert prepared_on(connection) == []


def test_inside_a_transaction_a_statement_is_part_of_it_whatever_was_forgotten(database):
    close_pools()
    statement = Statement("tests", "add", "INSERT INTO public.direct VALUES (%(n)s::int) RETURNING n")
    with autocommit() as connection:
        connection.execute("DROP TABLE IF EXISTS public.direct")
        connection.execute("CREATE TABLE public.direct (n int)")
        fetch_directly(connection, statement, {"n": 1}, plain)
        connection.execute("DEALLOCATE ALL")
    with contextlib.suppress(ZeroDivisionError), transaction() as connection:
        assert fetch_directly(connection, statement, {"n": 2}, plain) == [(2,)]
        raise ZeroDivisionError
    with autocommit() as connection:
        assert connection.execute("SELECT n FROM public.direct").fetchall() == [(1,)]


def test_observers_and_guards_are_told(connection):
    told = []

    def observer(statement, seconds, error):
        told.append((statement.label, seconds > 0, error))

    door.observe(observer, before=lambda statement, values: told.append((statement.label, values)))
    try:
        fetch_directly(connection, ECHO, VALUES, plain)
    finally:
        door.forget_observer(observer)
    assert told == [("tests.echo", VALUES), ("tests.echo", True, None)]


def test_a_time_limit_interrupts_it_and_its_connection_is_not_used_again(database):
    close_pools()
    nap = Statement("tests", "nap", "SELECT pg_sleep(60)")
    with pytest.raises(JobTimeoutError), autocommit() as connection, deadline(0.2):
        fetch_directly(connection, nap, {}, plain)
    assert (connection.closed, open_connections()) == (True, 0)


def test_ctrl_c_ends_the_statement_and_the_connection_goes_on(connection):
    nap = Statement("tests", "nap", "SELECT pg_sleep(60)")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch_directly(connection, nap, {}, plain)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert one_of(connection) == [(1,)]


def test_a_connection_that_ends_is_an_error_of_the_connection(database):
    with contextlib.suppress(psycopg.OperationalError), autocommit() as connection:
        one_of(connection)
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            one_of(connection)
    assert not is_open(connection)
