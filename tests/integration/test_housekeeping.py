"""What is done once an hour waits for nobody's long transaction, and nobody waits for it."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors
from structlog.testing import capture_logs

from cgk_tasks import send_job
from cgk_tasks.config import get_settings
from cgk_tasks.events import TenantEvent
from cgk_tasks.runs.partitions import DAILY_TABLES, SQL, forget_days, make_days
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.worker import dispatcher, housekeeping
from cgk_tasks.worker.dispatcher import Dispatcher
from cgk_tasks.worker.housekeeping import run_housekeeping
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("database")

OLD = datetime.now(UTC).date() - timedelta(days=400)
NEXT_MONTH = OLD + timedelta(days=30)
KINDS = {table.goes_with_runs: table for table in DAILY_TABLES}
EACH_KIND = pytest.mark.parametrize("table", KINDS.values(), indirect=True, ids=lambda table: table.name)
WAIT_FOR_ME = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'cgk.groups'::regclass"
    " AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)


class Later(TenantEvent, event="test.housekept"):
    """Of which nobody has a job."""


@pytest.fixture
def somebody(database):
    """A connection of somebody else, which may be in a transaction."""
    with psycopg.connect(get_settings().database_url.get_secret_value()) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def table(request, database):
    yield request.param
    forget_days(NEXT_MONTH, request.param)


def old_days(table):
    with autocommit() as connection:
        names = [row["name"] for row in fetch(connection, SQL["partitions"], {"table": f"cgk.{table.name}"})]
    return [name for name in names if name < f"{table.name}_{NEXT_MONTH:%Y%m%d}"]


# Locks of others


@EACH_KIND
def test_while_somebody_reads_a_table_no_day_of_it_is_made(table, somebody):
    somebody.execute(f"SELECT FROM cgk.{table.name}")
    with pytest.raises(errors.LockNotAvailable):
        make_days(OLD, table)
    somebody.commit()
    assert make_days(OLD, table) == old_days(table)
    assert len(old_days(table)) == 8


@EACH_KIND
def test_while_somebody_reads_a_table_no_day_of_it_is_dropped(table, somebody):
    made = make_days(OLD, table)
    somebody.execute(f"SELECT FROM cgk.{table.name}")
    with pytest.raises(errors.LockNotAvailable):
        forget_days(NEXT_MONTH, table)
    somebody.commit()
    assert (forget_days(NEXT_MONTH, table), old_days(table)) == (made, [])


@EACH_KIND
def test_what_is_put_off_is_told_and_the_rest_is_done(table, somebody):
    for one in DAILY_TABLES:
        make_days(OLD, one)
    somebody.execute(f"SELECT FROM cgk.{table.name}")
    with capture_logs() as lines:
        run_housekeeping(pauses=[0.0])
    assert [one.name for one in DAILY_TABLES if old_days(one)] == [table.name]
    put_off = [line["at"] for line in lines if line["event"] == "housekeeping_deferred"]
    assert set(put_off) == {table.name}


def test_a_lock_is_asked_for_again_after_a_pause(somebody, monkeypatch):
    history = DAILY_TABLES[0]
    make_days(OLD, history)
    somebody.execute("SELECT FROM cgk.run_history")
    monkeypatch.setattr(housekeeping.time, "sleep", lambda _seconds: somebody.commit())
    run_housekeeping(pauses=[1.0])
    assert old_days(history) == []


def test_a_key_that_somebody_takes_anew_is_not_waited_for(somebody):
    with autocommit() as connection:
        connection.cursor().executemany(
            "INSERT INTO cgk.idempotency_keys VALUES ('acme', 'test.housekept', %s, gen_random_uuid(), '', now())",
            [["taken"], ["gone"]],
        )
    somebody.execute("UPDATE cgk.idempotency_keys SET expires_at = now() + interval '1 day' WHERE key = 'taken'")
    run_housekeeping()
    somebody.commit()
    with autocommit() as connection:
        rows = fetch(connection, "SELECT key FROM cgk.idempotency_keys WHERE event = 'test.housekept'")
    assert [row["key"] for row in rows] == ["taken"]


# The leader


def test_the_leader_goes_on_meanwhile(monkeypatch, somebody):
    monkeypatch.setattr(dispatcher, "_SETTLED_SECONDS", 0.0)
    leader = Dispatcher(str(uuid.uuid4()))
    somebody.execute("LOCK TABLE cgk.groups")
    leader.tick()
    wait_until(lambda: somebody.execute(WAIT_FOR_ME).fetchone()[0], what="the housekeeping waits")
    send_job(Later(tenant_id="acme"), queue="nobody-listens", delay=0.1)
    assert wait_until(leader.tick) == 1
    somebody.rollback()
    wait_until(lambda: "cgk-housekeeping" not in {thread.name for thread in threading.enumerate()})


def test_what_fails_keeps_nothing_else_from_being_done():
    with autocommit() as connection:
        connection.execute(
            "CREATE FUNCTION cgk.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;"
            "CREATE TRIGGER refuse BEFORE DELETE ON cgk.groups EXECUTE FUNCTION cgk.refuse()"
        )
        connection.execute(
            "INSERT INTO cgk.run_counts (seconds, tenant_id, begin, closed)"
            " VALUES (60, 'acme', now() - interval '9 days', 1)"
        )
    try:
        with capture_logs() as lines:
            run_housekeeping()
    finally:
        with autocommit() as connection:
            connection.execute("DROP FUNCTION cgk.refuse CASCADE")
    with autocommit() as connection:
        kept = fetch(connection, "SELECT FROM cgk.run_counts WHERE begin < now() - interval '8 days'")
    assert ([line["at"] for line in lines if line["event"] == "housekeeping_failed"], kept) == (["groups"], [])
