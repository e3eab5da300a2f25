"""Statements read the runs that they are about, whatever time PostgreSQL's statistics are of.

The open runs are a table that is filled and emptied all the time. Statistics are made a minute later, or were made when
nothing was in the state that is asked for now, or when nothing else was.
"""

from typing import NamedTuple

import psycopg
import pytest

from cgk_tasks.sql.postgres import statements
from tests.support.old_statistics import (
    IN_A_STATE,
    OF_EACH,
    PACKET,
    STATISTICS,
    WORKER,
    most_compared,
    most_read,
    plan_of,
    prepare,
)  # fmt: skip

FEW = 1.1 * PACKET * PACKET
"""Half of the runs in a state. In small tables, analyzed amid the tests, each of a packet may be compared with each."""


@pytest.fixture(scope="module")
def connection(database):
    with psycopg.connect(database, autocommit=True, prepare_threshold=None) as connection:
        for table in ("runs", "lanes", "shares"):
            connection.execute(f"ALTER TABLE cgk.{table} SET (autovacuum_enabled = off)")
        connection.execute(f"INSERT INTO cgk.workers (id, name, pid, queues) VALUES ('{WORKER}', 'w', 1, ARRAY['q'])")
        yield connection


class Filled(NamedTuple):
    connection: psycopg.Connection
    values: dict


@pytest.fixture(scope="module", params=STATISTICS)
def runs(connection, request):
    prepare(connection, request.param)
    return Filled(connection, values(connection))


OF_SENDS = ("find_lanes", "make_lanes")
OF_STATE = f"SELECT id FROM cgk.runs WHERE state = %s ORDER BY id LIMIT {PACKET}"
LANES = f"SELECT id FROM cgk.lanes WHERE queue = 'q' ORDER BY id LIMIT {PACKET}"
PLANS = ("force_custom_plan", "force_generic_plan")
FIRST, LAST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"


def ids(connection, state):
    return [str(run) for (run,) in connection.execute(OF_STATE, [state])]


def values(connection):
    """What statements ask for. Those that are not about runs by their ids are about the first of each lane."""
    lanes = [lane for (lane,) in connection.execute(LANES)]
    running, none, ones = ids(connection, "running"), [None] * PACKET, [1] * PACKET
    return {
        "ids": running, "id": running, "lane": lanes, "lanes": lanes, "worker_id": WORKER, "attempt": ones,
        "attempts": ones, "front": ["2020-01-01"] * PACKET, "runs": ones, "slots": ones, "slot": lanes,
        "state": ["pending"] * PACKET, "refund": ones, "delay_seconds": [0.0] * PACKET, "error": none,
        "error_code": none, "payload": none, "job": none, "deferral": none, "processes": ones, "pids": ones,
        "errors": none, "deaths": 1, "parents": running, "undone": [], "after": 0, "oldest": 0, "limit": 5000, "pid": 1,
        "publishes": True, "schedules": ["s"] * PACKET, "step": 60.0, "mails": ["end"] * PACKET,
        "states": ["completed"] * PACKET, "rank": ["2020-01-01"] * PACKET, "durability": "off", "result": none,
        "fingerprint": none, "took": [0.1] * PACKET, "queue": "q", "queues": ["q"], "tenant_id": "t1",
        "before": "2100-01-01", "priority": 5, "patience": -60.0, "unknown": -60.0, "budget": -60.0, "frontier": 0,
        "known": [], "timeout": 60.0, "seconds": 1.0, "workers": [WORKER], "looked_at": PACKET, "count_to": PACKET,
        "handed_over_at": "2100-01-01", "gate": [], "room": [], "due": [], "clocks": "{}", "new": PACKET,
    }  # fmt: skip


def look(runs, file, name, plan, /, **given):
    """The plan of one statement, asked for the usual values or those that are given."""
    statement = statements(file)[name]
    by_index = name == "admit" or (file == "admission" and name not in OF_SENDS) or (file, name) in BY_INDEX
    return plan_of(runs.connection, statement, runs.values | given, plan, by_index=by_index)


BY_INDEX = {("dispatch", "unclaimed_lists"), ("transitions", "release_unlaned"), ("transitions", "leave_lanes")}
"""Statements of others that are executed as those of passes."""
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
    "close_waiting": "held",
    "lock_to_cancel": "held",
    "with_something_to_undo": "held",
    "schedule_held": "held",
    "wake_these": "scheduled",
    "wake_parents": "scheduled",
}
OF_ONE = {"state": "completed", "error": None, "error_code": None, "fingerprint": None, "job": None, "result": None}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", BY_ID)
def test_who_asks_for_runs_by_their_ids_reads_no_others(runs, name, plan):
    """And compares none of them with the others."""
    given = dict.fromkeys(("id", "ids", "parents"), ids(runs.connection, BY_ID[name]))
    found = look(runs, "transitions", name, plan, **given, **(OF_ONE if name == "close_waiting" else {}))
    assert most_read(found) <= FEW


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["finish", "finish_completed"])
def test_the_end_of_a_packet_reads_its_runs(runs, name, plan):
    given = {"attempt": 1, "state": ["completed"] * PACKET} | ({"job": None} if name == "finish_completed" else {})
    assert most_read(look(runs, "transitions", name, plan, **given)) <= FEW


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("file", "name"), [("mail", "ends_for_parents"), ("runs", "open_children")])
def test_what_comes_of_children_reads_them_and_their_parents(runs, file, name, plan):
    assert most_read(look(runs, file, name, plan, ids=ids(runs.connection, "scheduled"))) <= FEW


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["admitted", "held_again"])
def test_a_claim_that_is_limited_reads_the_runs_of_its_packet(runs, name, plan):
    given = ids(runs.connection, "running" if name == "admitted" else "held")
    assert most_read(look(runs, "admission", name, plan, ids=given)) <= FEW


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("file", "name"), [("transitions", "suspend"), ("transitions", "begin_once"), ("steps", "keep_step")]
)
def test_an_attempt_reads_its_own_run(runs, file, name, plan):
    given = {
        "id": ids(runs.connection, "running")[0], "attempt": 1, "until": [None], "delay_seconds": [1.0], "job": None,
        "sealed_deferral": None,
    }  # fmt: skip
    if name == "keep_step":
        given |= {
            "name": "a", "nth": 1, "place": 1, "kind": "step", "state": "done", "sealed_result": None, "key_id": None,
            "sealed_error": None, "attempts": 1, "awaits": "", "until": None, "delay_seconds": None,
        }  # fmt: skip
    assert most_read(look(runs, file, name, plan, **given)) <= PACKET


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("file", "name"), [("transitions", "admit"), ("admission", "untold")])
def test_a_pass_and_a_sweep_read_the_first_runs_of_each_lane(runs, file, name, plan):
    assert most_read(look(runs, file, name, plan)) <= PACKET**2


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["usage", "reopen", "tell", "tell_untold"])
def test_a_pass_looks_at_each_slot_and_lane_once(runs, name, plan):
    given = {} if name != "reopen" else {"gate": full_gates(runs.connection), "room": [1] * PACKET}
    assert most_read(look(runs, "admission", name, plan, **given)) <= FEW


def full_gates(connection):
    return [gate for (gate,) in connection.execute("SELECT waits_at FROM cgk.lanes WHERE status = 'full'")]


@pytest.mark.parametrize("plan", PLANS)
def test_overtime_is_charged_to_each_share_without_a_comparison(runs, plan):
    found = look(runs, "admission", "charge_overtime", plan)
    assert most_compared(found) <= PACKET
    assert most_read(found) <= 1.5 * IN_A_STATE


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", OF_SENDS)
def test_a_send_reads_the_lanes_that_its_runs_wait_in(runs, name, plan):
    """And compares none of them with the others: a tick for 10,000 tenants would take minutes."""
    tenants = [f"t{n}" for n in range(1, PACKET + 1)]
    given = {
        "queue": ["q"] * PACKET, "tenant_id": tenants, "event": ["test.counted"] * PACKET, "priority": [5] * PACKET,
        "alone": [False] * PACKET, "gates": ["{}"] * PACKET,
    }  # fmt: skip
    assert most_read(look(runs, "admission", name, plan, **given)) <= FEW


@pytest.mark.parametrize("plan", PLANS)
def test_a_send_of_a_tenant_with_a_most_of_waiting_runs_reads_no_more_than_one_state(runs, plan):
    assert most_read(look(runs, "limits", "count_waiting", plan, limit=PACKET)) <= 1.5 * IN_A_STATE


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    "name", ["dispatch_due", "dispatch_unpublished", "dispatch_lost", "expire", "cancel_waiting", "cancel_paused"]
)
def test_who_moves_the_first_runs_looks_at_no_run_twice(runs, name, plan):
    """Statistics of an emptied table lead past the order of an index; what is found there is compared with nothing."""
    found = look(runs, "transitions", name, plan, limit=PACKET)
    assert most_read(found) <= 5 * IN_A_STATE
    assert most_compared(found) <= PACKET


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("file", "name"), [("dispatch", "unclaimed_lists"), ("transitions", "release_unlaned")])
def test_a_walk_of_the_leader_reads_what_it_is_about(runs, file, name, plan):
    assert most_read(look(runs, file, name, plan)) <= FEW


@pytest.mark.parametrize("plan", PLANS)
def test_a_look_of_the_leader_reads_the_first_of_each_state(runs, plan, request):
    most = IN_A_STATE + 5 * PACKET if "emptied" in request.node.name else PACKET
    assert most_read(look(runs, "dispatch", "glance", plan)) <= most


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("dispatch", "runs_of_worker"), ("dispatch", "dead_workers"), ("used_shares", "note"), ("workers", "running"),
        ("live", "workers"), ("transitions", "runs_to_reclaim"),
    ],
)  # fmt: skip
def test_who_asks_what_workers_run_reads_what_they_run(runs, file, name, plan):
    given = {"id": WORKER, "ids": None}
    assert most_read(look(runs, file, name, plan, **given)) <= 1.1 * IN_A_STATE


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("file", "name"), [("admission", "prune_lanes"), ("guards", "admitted"), ("metrics", "open_runs")]
)
def test_who_looks_at_all_lanes_or_runs_compares_none_with_another(runs, file, name, plan):
    found = look(runs, file, name, plan, queues=["q"], top=10, limit=5000)
    assert most_compared(found) <= PACKET
    assert most_read(found) <= 5 * IN_A_STATE


@pytest.mark.parametrize("plan", PLANS)
def test_a_worker_without_a_broker_reads_the_packets_that_it_takes(runs, plan, request):
    most = IN_A_STATE if "emptied" in request.node.name else FEW
    found = look(runs, "dispatch", "next_dispatched", plan, busy=[], limit=PACKET)
    assert most_read(found) <= most


@pytest.mark.parametrize(("file", "name"), [("lanes", "lanes"), ("lanes", "gates_waited_at"), ("live", "queues")])
def test_a_page_of_lanes_compares_none_with_another(runs, file, name):
    """Pages plan each question for what it asks."""
    given = {"queue": "full", "queues": ["full"], "tenant_id": None, "limit": PACKET}
    assert most_compared(look(runs, file, name, PLANS[0], **given)) <= PACKET


@pytest.mark.parametrize(
    ("name", "most"), [("lane", 2 * OF_EACH), ("work_ahead", 2 * OF_EACH), ("ahead", 1.1 * IN_A_STATE)]
)
def test_who_asks_why_a_run_waits_reads_its_lane_or_its_list(runs, name, most):
    held = "SELECT id FROM cgk.runs WHERE lane_id IS NOT NULL AND state = 'held' ORDER BY id LIMIT 1"
    run = runs.connection.execute(held).fetchone()[0]
    assert most_read(look(runs, "why", name, PLANS[0], id=run, limit=PACKET)) <= most


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("name", "since"), [("crowd", "-infinity"), ("open_queues", "{}")])
def test_a_look_at_a_queue_reads_what_is_unclaimed_there(runs, name, since, plan):
    assert most_read(look(runs, "admission", name, plan, since=since, most=PACKET)) <= 1.1 * IN_A_STATE
