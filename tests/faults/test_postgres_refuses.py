"""PostgreSQL is there, but takes no writes, or no connections, while jobs end: they wait, and do not run again."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from cgk_tasks import send_job
from cgk_tasks.runs.store import record_of
from tests.faults.jobs import Query
from tests.faults.journal import once, rows_written, wait_completed
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def worker_environment():
    return {"CGK_WORKER_TIMEOUT_SECONDS": "60"}  # what it does after that time has tests of its own


@pytest.fixture
def administrator(postgres, services):
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        yield connection


@contextmanager
def read_only(administrator):
    def switch(value):
        administrator.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        administrator.execute("SELECT pg_reload_conf()")

    switch("on")
    try:
        yield
    finally:
        switch("off")


def open_transactions(administrator):
    statement = """
        SELECT count(*) FROM pg_stat_activity
         WHERE state = 'idle in transaction' AND application_name LIKE '%tenant%'
    """
    return administrator.execute(statement).fetchone()[0]


def moments_later(administrator, seconds):
    def now():
        return administrator.execute("SELECT clock_timestamp()").fetchone()[0]

    until = now() + timedelta(seconds=seconds)
    wait_until(lambda: now() > until, 10 * seconds)


@pytest.mark.parametrize("writes", [False, True])
def test_a_job_that_ends_while_nothing_can_be_written_is_recorded_afterwards(worker, journal, administrator, writes):
    runs = journal.send(2, seconds=4.0, writes=writes)
    journal.wait_at_work(runs, 2)
    if writes:
        wait_until(lambda: open_transactions(administrator) == 2, what="both have written")
    with read_only(administrator):
        wait_until(lambda: journal.ends(runs) == once(runs), what="both have ended")
        moments_later(administrator, 8)
    wait_completed(runs)
    assert journal.starts(runs) == once(runs)
    assert rows_written(runs) == (once(runs) if writes else {})


def test_a_job_that_ends_while_no_connection_is_free_is_recorded_afterwards(worker, journal, services, administrator):
    runs = journal.send(2, seconds=2.0, writes=False)
    journal.wait_at_work(runs, 2)
    with every_connection_taken(services.database_url, administrator):
        wait_until(lambda: journal.ends(runs) == once(runs), what="both have ended")
        moments_later(administrator, 5)
    wait_completed(runs)
    assert journal.starts(runs) == once(runs)


@contextmanager
def every_connection_taken(url, administrator):
    """Whoever had one loses it, and gets none back."""
    taken, ended = [], threading.Event()

    def take():
        while not ended.is_set():
            try:
                taken.append(psycopg.connect(url, connect_timeout=2))
            except psycopg.OperationalError:
                ended.wait(0.005)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        end_others = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND application_name <> '' AND pid <> pg_backend_pid()
        """
        count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> ''"
        wait_until(lambda: administrator.execute(end_others) and not administrator.execute(count).fetchone()[0])
        yield
    finally:
        ended.set()
        thread.join()
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(
    ("setting", "query"),
    [("statement_timeout", {"in_postgres": 5.0}), ("idle_in_transaction_session_timeout", {"in_job": 2.5})],
)
def test_a_time_limit_of_the_server_is_a_recorded_failure_of_the_attempt(worker, administrator, setting, query):
    administrator.execute(f"ALTER DATABASE cgk SET {setting} = '1s'")
    try:
        status = wait_closed(send_job(Query(tenant_id="acme", **query)).id)
    finally:
        administrator.execute(f"ALTER DATABASE cgk RESET {setting}")
    assert (status.state, status.error_code, status.deaths) == ("failed", "TIMEOUT", 0)
    assert [error["code"] for error in record_of(status.id)["errors"]] == ["TIMEOUT"]
    assert "Exception during reset" not in worker.logs()
