"""Whoever was told of a run's end is not told something else later, whatever dies then."""

import pytest

from cgk_tasks import get_run, trigger_and_wait
from cgk_tasks.sql.postgres import autocommit
from tests.faults.journal import once
from tests.support.waiting import wait_until


@pytest.fixture
def lazy_disk(postgres):
    """PostgreSQL writes to disk what somebody waits for, and the rest much later."""
    with autocommit() as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: connection.execute("SHOW wal_writer_delay").fetchone()[0] == "10s")
    yield
    with autocommit() as connection:
        connection.execute("ALTER SYSTEM RESET wal_writer_delay")
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("writes", [False, True])
def test_an_end_that_somebody_was_told_outlives_a_crash_of_postgres(worker, postgres, journal, lazy_disk, writes):
    told = [trigger_and_wait(journal.work(number, writes=writes), timeout=60) for number in range(3)]
    postgres.kill("SIGKILL")
    postgres.start()
    runs = [one.run_id for one in told]
    assert [(one.success, get_run(one.run_id).state) for one in told] == [(True, "completed")] * 3
    assert journal.starts(runs) == once(runs)
