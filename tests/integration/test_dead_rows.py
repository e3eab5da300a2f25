"""What PostgreSQL keeps for somebody's long transaction costs looks nothing, or not much of the time.

While a transaction sees the open runs as they were, all that have been open since keep their places in the indexes.
"""

import json
import uuid

import psycopg
import pytest

from cgk_tasks.admission.window import ALWAYS, UNCLAIMED_LOOKED_AT, crowd
from cgk_tasks.sql.postgres import statements

RUNS = 3000
FEW_BLOCKS = 100
"""Each dead row is a block that is looked at, or one in a few."""
SQL = statements("admission")

LIVE = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, admitted_at, handed_over_at,
                      hand_overs, slot, lane_id)
SELECT gen_random_uuid(), 'acme', 'test.dead', 'pending', 'dead', 5, '{}', at, at, at, 1, n, 1
  FROM generate_series(1, %(runs)s) AS n, (SELECT now() - interval '1 minute') AS one (at);
UPDATE cgk.runs SET state = 'running', worker_id = %(worker)s, started_at = now() WHERE queue = 'dead';
DELETE FROM cgk.runs WHERE queue = 'dead'
"""
ONE = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, handed_over_at, hand_overs)
VALUES (gen_random_uuid(), 'acme', 'test.alive', 'pending', 'dead', %s, '{}', now(), now() - make_interval(secs => %s),
        1)
"""


@pytest.fixture
def connection(database):
    with psycopg.connect(database, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares")
        yield connection
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares")


@pytest.fixture
def dead(connection, database):
    """Runs that are gone, and a transaction that may still see them."""
    with psycopg.connect(database) as somebody:
        somebody.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        somebody.execute("SELECT FROM cgk.tenants")
        for statement in LIVE.split(";"):
            values = {"runs": RUNS, "worker": str(uuid.uuid4())}
            connection.execute(statement, {key: value for key, value in values.items() if f"%({key})" in statement})
        yield connection


def blocks(connection, statement, **values):
    """So many it looks at, when it is planned anew."""
    values = {"timeout": 60, "most": UNCLAIMED_LOOKED_AT, "queue": "dead"} | values
    (row,) = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values, prepare=False)
    (found,) = row["QUERY PLAN"]
    return found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]


def test_a_second_look_at_a_queue_begins_where_runs_may_be_unclaimed(dead):
    first = crowd(dead, "dead")
    assert blocks(dead, SQL["crowd"], since=ALWAYS) > FEW_BLOCKS
    assert blocks(dead, SQL["crowd"], since=first.since) < FEW_BLOCKS


def test_so_does_that_of_a_pass_for_each_of_its_queues(dead):
    dead.execute("INSERT INTO cgk.shares (queue, tenant_id, open_lanes) VALUES ('dead', 'acme', 1)")
    since = json.dumps({"dead": crowd(dead, "dead").since})
    assert blocks(dead, SQL["open_queues"], since="{}") > FEW_BLOCKS
    assert blocks(dead, SQL["open_queues"], since=since) < FEW_BLOCKS


def test_what_was_unclaimed_at_a_look_is_so_at_the_next_one(connection):
    for priority, seconds in ((0, 90), (9, 60), (5, 1)):
        connection.execute(ONE, [priority, seconds])
    since = ALWAYS
    for _ in range(3):
        found = crowd(connection, "dead", since)
        assert found.unclaimed == ["test.alive"] * 3
        since = found.since


def test_what_is_dispatched_after_a_look_is_found_by_the_next_one(dead):
    since = crowd(dead, "dead").since
    dead.execute(ONE, [5, 1])
    assert crowd(dead, "dead", since).unclaimed == ["test.alive"]


def test_a_look_that_is_full_tells_nothing_of_what_it_has_not_seen(connection, monkeypatch):
    monkeypatch.setattr("cgk_tasks.admission.window.UNCLAIMED_LOOKED_AT", 2)
    for priority, seconds in ((0, 30), (0, 30), (9, 90)):
        connection.execute(ONE, [priority, seconds])
    since = crowd(connection, "dead").since
    monkeypatch.undo()
    assert len(crowd(connection, "dead", since).unclaimed) == 3


def test_slots_that_are_gone_are_not_looked_at_for_what_they_owe(dead):
    values = {"unknown": 0.01, "budget": 0.1}
    assert blocks(dead, SQL["charge_overtime"], oldest=0, **values) > FEW_BLOCKS
    assert blocks(dead, SQL["charge_overtime"], oldest=RUNS + 1, **values) < FEW_BLOCKS
