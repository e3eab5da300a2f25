"""A migration while others use the tables: it waits for its lock so that they need not wait for it."""

import threading

import psycopg
import pytest

from cgk_tasks import migrations
from cgk_tasks.errors import StoreError
from cgk_tasks.migrations import patience
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'cgk.runs'::regclass"


@pytest.fixture
def before(database):
    """A schema that lacks a column of `cgk.runs`."""
    migrations.migrate("0006")
    return database


@pytest.fixture
def long_transaction(before):
    """One that reads `cgk.runs` and goes on: a backup, a report, a session that was forgotten."""
    with psycopg.connect(before) as connection:
        connection.execute("SELECT FROM cgk.runs")
        yield connection


@pytest.fixture
def migrating(long_transaction):
    """A migration that waits for the long transaction."""
    thread = threading.Thread(target=migrations.migrate)
    thread.start()
    yield thread
    long_transaction.rollback()
    thread.join()


def test_a_send_goes_on_while_a_migration_waits_behind_a_long_transaction(before, migrating):
    with psycopg.connect(before) as sender:
        wait_until(lambda: sender.execute(WAITING).fetchone()[0], what="the migration waits for its lock")
        sender.execute(f"SET LOCAL lock_timeout = '{patience.LOCK_TIMEOUT_SECONDS + 3:g}s'")
        sender.execute("LOCK TABLE cgk.runs IN ROW EXCLUSIVE MODE")  # as an INSERT does
    assert migrating.is_alive()


def test_a_migration_gets_through_once_the_long_transaction_has_ended(before, migrating, long_transaction):
    with psycopg.connect(before, autocommit=True) as observer:
        wait_until(lambda: observer.execute(WAITING).fetchone()[0], what="the migration waits for its lock")
        wait_until(lambda: not observer.execute(WAITING).fetchone()[0], what="the migration has let go")
    long_transaction.rollback()
    migrating.join()
    assert migrations.current() == migrations.newest()


def test_a_migration_that_never_gets_its_lock_says_what_to_look_for(before, long_transaction, monkeypatch):
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(StoreError, match="pg_stat_activity"):
        migrations.migrate()
    long_transaction.rollback()
    assert migrations.current() == "0006"
