"""Indexes of the open runs that a migration leaves to be made beside running workers."""

import threading

import psycopg
import pytest

from cgk_tasks import migrations
from cgk_tasks.admission.switch import Switch
from cgk_tasks.migrations import apply, indexes
from tests.support.waiting import wait_until

BEING_MADE = "SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = 'cgk.runs'::regclass"


@pytest.fixture
def connection(database):
    migrations.migrate()
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def test_migrating_makes_them_all(connection):
    assert indexes.are_made()


def test_one_that_is_missing_is_made_by_the_next_migrate(connection):
    connection.execute("DROP INDEX cgk.runs_in_lane")
    assert not apply.is_usable(apply.newest())
    migrations.migrate()
    assert apply.is_usable(apply.newest())


def test_one_that_was_left_invalid_is_made_anew(connection):
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cgk.runs_in_slot'::regclass"
    )  # as an interrupted CREATE INDEX CONCURRENTLY leaves it
    migrations.migrate()
    assert indexes.are_made()


def test_limits_are_left_to_redis_until_the_tables_and_their_indexes_are_there(database):
    migrations.migrate("0016")
    before = Switch().has_lanes
    migrations.migrate()
    after = Switch().has_lanes
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP INDEX cgk.runs_in_lane")
    assert (before, after, Switch().has_lanes) == (False, True, False)


@pytest.mark.slow
def test_sends_go_on_and_who_comes_second_waits_while_one_is_made_behind_a_long_transaction(connection, database):
    connection.execute("DROP INDEX cgk.runs_in_lane")
    both = [threading.Thread(target=indexes.make) for _ in range(2)]
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE cgk.runs IN ROW EXCLUSIVE MODE")  # as an INSERT that is not committed yet
        for thread in both:
            thread.start()
        wait_until(lambda: connection.execute(BEING_MADE).fetchone()[0], what="the index is being made")
        with psycopg.connect(database) as sender:
            sender.execute("SET LOCAL lock_timeout = '1s'")
            sender.execute("LOCK TABLE cgk.runs IN ROW EXCLUSIVE MODE")
        assert all(thread.is_alive() for thread in both)
    for thread in both:
        thread.join(30)
    assert indexes.are_made()


HELD = "CREATE INDEX runs_held ON cgk.runs (queue, tenant_id) WHERE state = 'held'"
DROPS_THAT_WAIT = """
SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DROP INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
"""


def has_index_of_held_runs(connection):
    return connection.execute("SELECT to_regclass('cgk.runs_held') IS NOT NULL").fetchone()[0]


@pytest.fixture
def with_replaced(database):
    """A connection to a database whose next migrate drops an index that nothing uses any more."""
    migrations.migrate("0033")
    with psycopg.connect(database, autocommit=True) as connection:
        assert has_index_of_held_runs(connection)
        yield connection


def test_an_index_whose_place_others_have_taken_is_dropped(with_replaced):
    migrations.migrate()
    assert (has_index_of_held_runs(with_replaced), indexes.are_made()) == (False, True)


def test_one_that_somebody_has_dropped_already_is_not_missed(with_replaced):
    with_replaced.execute("DROP INDEX cgk.runs_held")
    migrations.migrate()
    assert indexes.are_made()


def test_one_whose_drop_was_interrupted_is_dropped_by_the_next_migrate(connection):
    connection.execute(HELD)
    connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cgk.runs_held'::regclass")
    migrations.migrate()
    assert not has_index_of_held_runs(connection)


def test_what_earlier_releases_ask_by_stays_while_the_database_is_not_finished(database):
    migrations.migrate("0013")
    with psycopg.connect(database, autocommit=True) as connection:
        assert has_index_of_held_runs(connection)


def test_sends_go_on_while_two_drop_one_behind_a_long_transaction(connection, database):
    connection.execute(HELD)
    both = [threading.Thread(target=indexes.drop_replaced, args=("0034",)) for _ in range(2)]
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE cgk.runs IN ROW EXCLUSIVE MODE")  # as an INSERT that is not committed yet
        for thread in both:
            thread.start()
        wait_until(lambda: connection.execute(DROPS_THAT_WAIT).fetchone() == (2,), what="the index is being dropped")
        with psycopg.connect(database) as sender:
            sender.execute("SET LOCAL lock_timeout = '1s'")
            sender.execute("LOCK TABLE cgk.runs IN ROW EXCLUSIVE MODE")
    for thread in both:
        thread.join(30)
    assert not has_index_of_held_runs(connection)


INDEXED = """
SELECT count(*) FILTER (WHERE x.inhrelid IS NULL), bool_and(p.indisvalid) FROM pg_inherits i
  LEFT JOIN pg_index p ON p.indrelid = i.inhrelid AND p.indexrelid IN
       (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'cgk.run_history_dead_letters'::regclass)
  LEFT JOIN pg_inherits x ON x.inhrelid = p.indexrelid
 WHERE i.inhparent = 'cgk.run_history'::regclass
"""


def test_each_partition_of_the_history_has_the_index_of_dead_letters(connection):
    assert connection.execute(INDEXED).fetchone() == (0, True)


def test_a_partition_without_it_gets_it_by_the_next_migrate_and_all_works_meanwhile(connection):
    """As an interrupted migrate leaves it."""
    connection.execute("DROP INDEX cgk.run_history_dead_letters")
    connection.execute(
        "CREATE INDEX run_history_dead_letters ON ONLY cgk.run_history (event, error_fingerprint, closed_at)"
        " INCLUDE (id, tenant_id) WHERE state = 'failed'"
    )
    assert apply.is_usable(apply.newest())
    assert connection.execute(INDEXED).fetchone()[0] > 0
    migrations.migrate()
    assert connection.execute(INDEXED).fetchone() == (0, True)


INDEX_OF_HISTORY = """
DROP INDEX cgk.run_history_dead_letters;
CREATE INDEX run_history_dead_letters ON ONLY cgk.run_history (event, error_fingerprint, closed_at)
    INCLUDE (id, tenant_id) WHERE state = 'failed'
"""
WAITS_FOR_INDEX = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'cgk.run_history_rest_dead_letters'::regclass"
)


def test_ends_go_on_while_somebody_has_read_the_history_as_its_index_was_made(connection, database):
    connection.execute(INDEX_OF_HISTORY)
    making = threading.Thread(target=indexes.make)
    with psycopg.connect(database) as reader:
        with psycopg.connect(database) as writer:
            writer.execute("LOCK TABLE cgk.run_history_rest IN ROW EXCLUSIVE MODE")  # so that making it takes a while
            making.start()
            made = "SELECT to_regclass('cgk.run_history_rest_dead_letters') IS NOT NULL"
            wait_until(lambda: connection.execute(made).fetchone()[0])
            reader.execute("SELECT count(*) FROM cgk.run_history_rest")
        wait_until(lambda: connection.execute(WAITS_FOR_INDEX).fetchone()[0])
        with psycopg.connect(database) as ends:
            ends.execute("SET LOCAL lock_timeout = '20s'")
            ends.execute("INSERT INTO cgk.run_history_rest SELECT * FROM cgk.run_history_rest")
        reader.rollback()
    making.join()
    assert not connection.execute(WITHOUT).fetchall()


WITHOUT = """
SELECT inhrelid FROM pg_inherits i WHERE inhparent = 'cgk.run_history'::regclass AND NOT EXISTS (
    SELECT FROM pg_inherits o JOIN pg_index x ON x.indexrelid = o.inhrelid
     WHERE o.inhparent = 'cgk.run_history_dead_letters'::regclass AND x.indrelid = i.inhrelid)
"""
