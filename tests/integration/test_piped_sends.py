"""A lone send: its insert and the wait for the disk go to PostgreSQL together, and its message goes out in between."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cgk_tasks import get_run, send_job
from cgk_tasks.errors import StoreError
from cgk_tasks.sql import door
from cgk_tasks.sql.piped import piped
from cgk_tasks.sql.pool import is_open
from cgk_tasks.sql.postgres import autocommit, close_pools, transaction
from cgk_tasks.sql.statements import Statement
from tests.support.jobs import Behave
from tests.support.observed import observed_statements
from tests.support.waiting import wait_closed, wait_until

INSERT = Statement(
    "tests",
    "insert",
    "INSERT INTO public.piped (id, content) SELECT %(id)s::int, %(content)s::text"
    " WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"
    " RETURNING id, pg_current_wal_insert_lsn()",
)

OTHER = Statement("tests", "other", "INSERT INTO public.piped (id) VALUES (%(id)s::int) RETURNING id")


@pytest.fixture(autouse=True)
def nobody_observes(monkeypatch):
    """As long as somebody does, each statement is waited for."""
    monkeypatch.setattr(door, "_observers", [])


@pytest.fixture(autouse=True)
def table(database):
    close_pools()  # of two DEALLOCATE ALL that tests execute on one connection the driver may miss the second
    with autocommit() as connection:
        connection.execute("DROP TABLE IF EXISTS public.piped")
        connection.execute("CREATE TABLE public.piped (id int PRIMARY KEY, content text)")


@pytest.fixture
def connection(database):
    with autocommit() as one:
        yield one


def kept():
    with autocommit() as other:
        return [row[0] for row in other.execute("SELECT id FROM public.piped ORDER BY id").fetchall()]


def insert(connection, number, content="x"):
    return piped(connection, INSERT, {"id": number, "content": content})


def send():
    return send_job(Behave(tenant_id="acme", action="echo", argument="piped"))


def test_others_see_what_is_done_before_the_block_ends(connection):
    with insert(connection, 1) as sent:
        assert sent.done().get_value(0, 0) == b"1"
        assert kept() == [1]


def test_the_end_of_the_block_waits_for_the_statement_where_nobody_else_did(connection):
    with insert(connection, 1):
        pass
    assert kept() == [1]


def test_at_the_end_of_the_block_the_disk_has_it(connection):
    connection.execute("SET synchronous_commit = on")  # which it is not in tests
    with insert(connection, 1) as sent:
        written = sent.done().get_value(0, 1).decode()
    flushed = connection.execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [written]).fetchone()
    connection.execute("RESET synchronous_commit")
    assert flushed == (True,)


def test_a_statement_that_is_refused_has_its_own_error_and_costs_no_connection(connection):
    with insert(connection, 1):
        pass
    with pytest.raises(psycopg.errors.UniqueViolation), insert(connection, 1) as sent:
        sent.done()
    with insert(connection, 2):
        pass
    assert kept() == [1, 2]


def test_a_statement_that_is_refused_while_somebody_observes_has_its_own_error_and_costs_no_connection(connection):
    with observed_statements(), insert(connection, 1):
        pass
    with observed_statements(), pytest.raises(psycopg.errors.UniqueViolation):
        insert(connection, 1)
    with insert(connection, 2):
        pass
    assert kept() == [1, 2]


def test_a_send_that_is_refused_while_somebody_observes_says_so(database):
    refuses = "ADD CONSTRAINT refuses CHECK (position('refused'::bytea IN sealed_payload) = 0) NOT VALID"
    with autocommit() as one:
        one.execute(f"ALTER TABLE cgk.runs {refuses}")
    try:
        with observed_statements(), pytest.raises(StoreError):
            send_job(Behave(tenant_id="acme", action="echo", argument="refused"))
    finally:
        with autocommit() as one:
            one.execute("ALTER TABLE cgk.runs DROP CONSTRAINT refuses")


def test_a_statement_that_has_failed_is_not_waited_for_again(connection):
    connection.execute("INSERT INTO public.piped VALUES (1, '')")
    sent = insert(connection, 1)
    with pytest.raises(psycopg.errors.UniqueViolation), sent:
        sent.done()
    with pytest.raises(psycopg.InterfaceError):
        sent.done()


def test_an_error_in_the_block_leaves_the_statement_done_and_the_connection_usable(connection):
    with pytest.raises(ZeroDivisionError), insert(connection, 1):
        raise ZeroDivisionError
    assert kept() == [1]
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_is_prepared_once_a_connection(database):
    close_pools()
    with autocommit() as connection:
        for number in range(3):
            with insert(connection, number):
                pass
        rows = connection.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'cgk_tasks.%'").fetchall()
    assert sorted(rows) == [("cgk_tasks.flush.0",), ("cgk_tasks.tests.insert.0",)]


def test_statements_that_somebody_has_let_go_of_are_prepared_again(connection):
    with insert(connection, 1):
        pass
    connection.execute("DEALLOCATE ALL")
    with insert(connection, 2) as sent:
        sent.done()
    assert kept() == [1, 2]


def test_a_statement_that_fails_at_first_is_prepared_all_the_same(connection):
    connection.execute("INSERT INTO public.piped VALUES (1, '')")
    with pytest.raises(psycopg.errors.UniqueViolation), insert(connection, 1):
        pass
    with insert(connection, 2):
        pass
    assert kept() == [1, 2]


def test_a_statement_is_the_first_one_after_others_have_let_go_of_the_flush(connection):
    with insert(connection, 1):
        pass
    connection.execute("DEALLOCATE ALL")
    with piped(connection, OTHER, {"id": 2}) as sent:
        sent.done()
    with insert(connection, 3):
        pass
    assert kept() == [1, 2, 3]


def test_a_send_works_after_a_rollback_on_its_connection(database):
    close_pools()
    send()
    with contextlib.suppress(ZeroDivisionError), transaction() as one:
        one.execute("SELECT count(*) FROM public.piped", prepare=True)
        raise ZeroDivisionError
    with autocommit() as one:  # psycopg now lets go of all that is prepared
        one.execute("SELECT 1")
    assert get_run(send().id)


def test_nothing_is_prepared_where_nothing_may_be(database):
    close_pools()
    with autocommit() as connection:
        connection.prepare_threshold = None
        with insert(connection, 1) as sent:
            sent.done()
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert (kept(), prepared) == ([1], (0,))
    close_pools()


def test_a_text_that_postgresql_cannot_keep_is_refused_before_it_is_sent(connection):
    with pytest.raises(psycopg.DataError, match="NUL"):
        insert(connection, 1, "a\0b")
    with insert(connection, 2):
        pass
    assert kept() == [2]


def test_a_value_of_another_kind_is_refused(connection):
    with pytest.raises(TypeError, match="UUID"):
        insert(connection, 1, uuid.uuid4())


def test_a_long_payload_goes_through(connection):
    text = "ä" * 5_000_000
    with insert(connection, 1, text) as sent:
        sent.done()
    assert connection.execute("SELECT content FROM public.piped").fetchone() == (text,)


@contextlib.contextmanager
def locked(database, table):
    """Who inserts into the table waits."""
    with psycopg.connect(database) as holder:
        holder.execute(f"LOCK TABLE {table}")
        yield


def end_whoever_waits(database):
    with psycopg.connect(database, autocommit=True) as other:
        waits = "wait_event_type = 'Lock' AND datname = current_database()"
        ended = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {waits}"
        wait_until(lambda: other.execute(ended).fetchall(), 20, "somebody waits")


def test_a_connection_that_ends_amid_a_statement_is_an_error_and_is_not_used_again(database):
    with (
        locked(database, "public.piped"),
        contextlib.suppress(psycopg.OperationalError),
        autocommit() as one,
        insert(one, 1) as sent,
    ):
        end_whoever_waits(database)
        with pytest.raises(psycopg.OperationalError):
            sent.done()
    assert not is_open(one)
    assert kept() == []


def test_a_send_whose_connection_ends_says_so_and_the_next_one_has_another(database):
    send()
    with locked(database, "cgk.runs"), ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send)
        end_whoever_waits(database)
        with pytest.raises(StoreError):
            sent.result()
    assert get_run(send().id)


DIES_BEFORE_ITS_PUSH = """
import os, signal
from cgk_tasks.broker.publisher import SafePublisher
from cgk_tasks import send_job

def die(self, messages):
    print(messages[0].id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

SafePublisher.publish = die
send_job("test.behave", {"tenantId": "acme", "action": "echo", "argument": "orphan"})
"""


@pytest.mark.slow
def test_a_run_whose_sender_is_killed_before_its_push_is_executed(database, start_worker):
    start_worker(["tests.support.jobs"])
    done = subprocess.run(
        [sys.executable, "-c", "import tests.support.jobs\n" + DIES_BEFORE_ITS_PUSH],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert wait_closed(done.stdout.strip(), 30).result == "orphan"
