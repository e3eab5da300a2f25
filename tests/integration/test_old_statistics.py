"""Statements read the runs that they are about, whatever time PostgreSQL's statistics are of.

The open runs are a table that is filled and emptied all the time. Statistics are made a minute later, or were made when
nothing was in the state that is asked for now.
"""

import re
import uuid
from contextlib import contextmanager

import psycopg
import pytest

from cgk_tasks.sql.postgres import statements

PACKET = 50
WORKER = str(uuid.uuid4())

FORGET = """
TRUNCATE cgk.runs, cgk.lanes, cgk.shares;
DELETE FROM pg_statistic WHERE starelid IN ('cgk.runs'::regclass, 'cgk.lanes'::regclass, 'cgk.shares'::regclass)
"""
OTHER_DAYS = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at)
SELECT gen_random_uuid(), 'acme', 'test.counted', 'scheduled', 'q', 5, '{}', now() + interval '1 day'
  FROM generate_series(1, 20000);
ANALYZE cgk.runs;
TRUNCATE cgk.runs
"""
FILL = f"""
INSERT INTO cgk.shares (queue, tenant_id) SELECT 'q', 't' || n FROM generate_series(1, {PACKET}) AS n;
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, gates, front)
SELECT id, queue, tenant_id, 'test.counted', 5, '{{}}', now() FROM cgk.shares;
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank)
SELECT gen_random_uuid(), tenant_id, event, 'held', queue, 5, '{{}}', now(), id, now()
  FROM cgk.lanes, generate_series(1, 100);
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, handed_over_at, hand_overs)
SELECT gen_random_uuid(), tenant_id, event, 'pending', queue, 5, '{{}}', now(), now(), 1
  FROM cgk.lanes, generate_series(1, 100);
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank, slot,
                      admitted_at, handed_over_at, attempt, worker_id, started_at)
SELECT gen_random_uuid(), tenant_id, event, 'running', queue, 5, '{{}}', now(), id, now(), id, now(), now(), 1,
       '{WORKER}', now()
  FROM cgk.lanes, generate_series(1, 100);
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at)
SELECT gen_random_uuid(), tenant_id, event, 'scheduled', queue, 5, '{{}}', now() + interval '1 hour'
  FROM cgk.lanes, generate_series(1, 100)
"""

STATISTICS = {"none": "", "of an empty table": "ANALYZE cgk.runs", "of runs that wait for their time": OTHER_DAYS}


@pytest.fixture(scope="module")
def connection(database):
    with psycopg.connect(database, autocommit=True, prepare_threshold=None) as connection:
        for table in ("runs", "lanes", "shares"):
            connection.execute(f"ALTER TABLE cgk.{table} SET (autovacuum_enabled = off)")
        yield connection


@pytest.fixture(scope="module", params=STATISTICS)
def runs(connection, request):
    """5000 runs in each of four states, of 50 lanes; and statistics that know nothing of them."""
    for statement in ";".join([FORGET, STATISTICS[request.param], FILL]).split(";"):
        if statement.strip():
            connection.execute(statement)
    return connection


OF_SENDS = ("find_lanes", "make_lanes")


def ids(connection, state):
    return [str(run) for (run,) in connection.execute(OF_STATE, [state])]


OF_STATE = f"SELECT id FROM cgk.runs WHERE state = %s ORDER BY id LIMIT {PACKET}"
LANES = f"SELECT id FROM cgk.lanes ORDER BY id LIMIT {PACKET}"


def values(connection):
    """What statements ask for. Those that are not about runs by their ids are about the first of each lane."""
    lanes = [lane for (lane,) in connection.execute(LANES)]
    running, none, ones = ids(connection, "running"), [None] * PACKET, [1] * PACKET
    return {
        "ids": running, "id": running, "lane": lanes, "lanes": lanes, "worker_id": WORKER, "attempt": ones,
        "attempts": ones, "front": ["2020-01-01"] * PACKET, "runs": ones, "slots": ones, "slot": lanes,
        "state": ["pending"] * PACKET, "refund": ones, "delay_seconds": [0.0] * PACKET, "error": none,
        "error_code": none, "payload": none, "job": none, "deferral": none, "processes": ones, "pids": ones,
        "errors": none, "deaths": 1, "parents": running, "undone": [], "after": 0, "limit": 5000, "pid": 1,
        "publishes": True, "schedules": ["s"] * PACKET, "step": 60.0,
    }  # fmt: skip


@contextmanager
def undone(connection):
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def most_read(connection, statement, given, plan):
    """The most rows that a part of the statement looks at. plan: force_custom_plan or force_generic_plan."""
    names = []

    def place(found):
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sbt]", place, statement)
    parameters = f"({', '.join(f'%({name})s' for name in names)})" if names else ""
    with undone(connection), psycopg.ClientCursor(connection) as cursor:
        cursor.execute(f"SELECT set_config('plan_cache_mode', '{plan}', true)")
        if statement.name == "admit" or (statement.file == "admission" and statement.name not in OF_SENDS):
            cursor.execute(statements("admission")["by_index"])  # as passes and sweeps do
        cursor.execute("PREPARE look AS " + text.replace("%", "%%"), {})
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE look {parameters}", given)
            ((plans,),) = cursor.fetchall()
        finally:
            connection.execute("ROLLBACK")
            connection.execute("DEALLOCATE look")
    return max(_looked_at(plans[0]["Plan"]))


def _looked_at(node):
    removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed"))
    yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for part in node.get("Plans", []):
        yield from _looked_at(part)


BY_ID = {
    "claim": "pending",
    "hold_dispatched": "pending",
    "hold_unpublished": "pending",
    "forget_dispatch": "pending",
    "assert_claims": "pending",
    "note_schedule": "pending",
    "running": "running",
    "release": "running",
    "hold_in_lane": "running",
    "count_running": "running",
    "reclaim": "running",
    "count_down_children": "running",
    "request_cancel": "running",
    "cancel": "held",
    "lock_to_cancel": "held",
    "with_something_to_undo": "held",
    "schedule_held": "held",
    "wake_these": "scheduled",
}
PLANS = ("force_custom_plan", "force_generic_plan")


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", BY_ID)
def test_who_asks_for_runs_by_their_ids_reads_no_others(runs, name, plan):
    """And compares none of them with the others."""
    given = values(runs)
    given |= dict.fromkeys(("id", "ids", "parents"), ids(runs, BY_ID[name]))
    assert most_read(runs, statements("transitions")[name], given, plan) <= 6 * PACKET


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["admitted", "held_again"])
def test_a_claim_that_is_limited_reads_the_runs_of_its_packet(runs, name, plan):
    given = {"ids": ids(runs, "running" if name == "admitted" else "held")}
    assert most_read(runs, statements("admission")[name], given, plan) <= 6 * PACKET


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["suspend", "begin_once"])
def test_an_attempt_reads_its_own_run(runs, name, plan):
    given = values(runs) | {
        "id": ids(runs, "running")[0], "attempt": 1, "until": [None], "delay_seconds": [1.0], "job": None,
        "sealed_deferral": None,
    }  # fmt: skip
    assert most_read(runs, statements("transitions")[name], given, plan) <= PACKET


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("file", "name"), [("transitions", "admit"), ("admission", "untold"), ("admission", "tell_untold")]
)
def test_a_pass_and_a_sweep_read_the_first_runs_of_each_lane(runs, file, name, plan):
    assert most_read(runs, statements(file)[name], values(runs), plan) <= PACKET**2


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", OF_SENDS)
def test_a_send_reads_the_lanes_that_its_runs_wait_in(runs, name, plan):
    """And compares none of them with the others: a tick for 10,000 tenants would take minutes."""
    tenants = [f"t{n}" for n in range(1, PACKET + 1)]
    given = {
        "queue": ["q"] * PACKET, "tenant_id": tenants, "event": ["test.counted"] * PACKET, "priority": [5] * PACKET,
        "alone": [False] * PACKET, "gates": ["{}"] * PACKET,
    }  # fmt: skip
    assert most_read(runs, statements("admission")[name], given, plan) <= 6 * PACKET


@pytest.mark.parametrize("plan", PLANS)
def test_a_look_of_the_leader_reads_the_first_of_each_state(runs, plan):
    assert most_read(runs, statements("dispatch")["glance"], {}, plan) <= PACKET


@pytest.mark.parametrize("plan", PLANS)
def test_a_worker_without_a_broker_reads_the_packets_that_it_takes(runs, plan):
    given = {"queues": ["q"], "busy": [], "limit": PACKET}
    assert most_read(runs, statements("dispatch")["next_dispatched"], given, plan) <= 6 * PACKET
