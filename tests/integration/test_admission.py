"""Passes over lanes of held runs, on PostgreSQL: limits, order, shares, and what happens at once."""

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cgk_tasks.admission.lanes import Told, tell
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.switch import Switch
from cgk_tasks.config import get_settings
from cgk_tasks.flow.lanes import hold_unpublished
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit, statements
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.lanes import (
    add_worker,
    claim,
    finish,
    hold,
    ids_of,
    make_gate,
    make_lane,
    make_rule,
    open_lanes_are_counted,
    status,
)
from tests.support.observed import observed_statements
from tests.support.waiting import wait_until

SECONDS = {"slow": 5.0, "quick": 0.001}


@pytest.fixture(autouse=True)
def lanes(database, setting):
    """No lanes of other tests, and the window that is usual."""
    setting(CGK_WINDOW_SECONDS=None)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    yield
    assert open_lanes_are_counted()


@pytest.fixture
def passes():
    return Passes(SECONDS.get)


@pytest.fixture
def places():
    """A worker that executes many runs at once, so that the window is no limit."""
    add_worker("q-lanes", 1000)


def slots_of(gate, connection=None):
    statement = (
        "SELECT count(DISTINCT r.slot) FROM cgk.runs r JOIN cgk.lanes l ON l.id = r.lane_id"
        " WHERE r.state IN ('pending', 'running') AND r.admitted_at = r.handed_over_at AND %s = ANY(l.gates)"
    )
    if connection is not None:
        return connection.execute(statement, [gate]).fetchone()[0]
    with autocommit() as own:
        return slots_of(gate, own)


def test_as_many_are_admitted_as_the_limit_says_in_their_order(passes, places):
    lane = make_lane("acme", make_gate(at_once=2), event="slow")
    runs = hold(lane, 5)
    assert (ids_of(passes.make()), status(lane)) == (runs[:2], "full")
    assert ids_of(passes.make()) == []
    finish(runs[:1])
    assert ids_of(passes.make()) == runs[2:3]


def test_an_admitted_run_is_pending_dispatched_and_has_a_slot(passes, places):
    run = hold(make_lane("acme", make_gate(at_once=1)))[0]
    packet = passes.make().packets[0]
    with autocommit() as connection:
        state, slot, hand_overs, handed_over_at = connection.execute(
            "SELECT state, slot, hand_overs, handed_over_at FROM cgk.runs"
        ).fetchone()
    assert (state, slot is not None, hand_overs) == ("pending", True, 1)
    assert (packet[0].id, packet[0].dispatched_at) == (run, handed_over_at)


def test_short_runs_that_travel_together_take_one_place(passes, places):
    gate = make_gate(at_once=2)
    hold(make_lane("acme", gate, event="quick"), 1000)
    assert [len(packet) for packet in passes.make().packets] == [50, 50]
    assert slots_of(gate) == 2


def test_runs_of_a_lane_for_those_whose_process_died_travel_alone(passes, places):
    hold(make_lane("acme", make_gate(at_once=3), event="quick", alone=True), 100)
    assert [len(packet) for packet in passes.make().packets] == [1, 1, 1]


def test_a_run_passes_all_of_its_gates_or_none(passes, places):
    own, total = make_gate(at_once=2), make_gate(at_once=3)
    other = make_lane("globex", make_gate(at_once=9), total, event="slow")
    hold(other, 2)
    passes.make()
    hold(make_lane("acme", own, total, event="slow"), 5)
    passes.make()
    assert (slots_of(own), slots_of(total)) == (1, 3)


def test_a_lane_behind_a_full_gate_keeps_no_other_lane_of_the_tenant(passes, places):
    gate = make_gate(at_once=1)
    hold(make_lane("acme", gate, event="slow"), 3)
    free = hold(make_lane("acme", event="slow"), 2)
    assert set(free) < set(ids_of(passes.make()))


def test_a_lane_that_is_through_is_empty_and_wakes_when_it_is_told(passes, places):
    lane = make_lane("acme", event="slow")
    hold(lane, 2)
    passes.make()
    assert status(lane) == "empty"
    run = hold(lane)
    assert (status(lane), ids_of(passes.make())) == ("new", run)


def test_a_run_that_is_due_earlier_than_those_before_it_comes_first(passes, places):
    gate = make_gate(at_once=1)
    lane = make_lane("acme", gate, event="slow")
    first = hold(lane)
    passes.make()
    hold(lane)
    earlier = hold(lane, since=datetime.now(UTC) - timedelta(hours=1))
    finish(first)
    assert ids_of(passes.make()) == earlier


def test_old_runs_of_a_low_priority_come_before_new_ones_of_a_high_one(passes):
    old = hold(make_lane(priority=3, event="slow"), since=datetime.now(UTC) - timedelta(minutes=5))
    new = hold(make_lane(priority=7, event="slow"))
    urgent = hold(make_lane(priority=9, event="slow"), since=datetime.now(UTC) - timedelta(minutes=2))
    order = []
    for _ in range(3):
        admitted = ids_of(passes.make())
        claim(admitted)
        order += admitted
    assert order == [*urgent, *old, *new]


@pytest.mark.slow
def test_a_process_that_hangs_amid_its_pass_does_not_keep_others_from_theirs(passes, places):
    with psycopg.connect(get_settings().database) as hangs:
        hangs.execute(statements("admission")["lock"])
        waiting = threading.Thread(target=passes.make, daemon=True)
        waiting.start()
        waiting.join(60)
        assert not waiting.is_alive()
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            hangs.execute("SELECT 1")


def test_the_window_is_as_long_as_the_workers_are_many(passes):
    add_worker("q-lanes", 4)
    hold(make_lane(event="slow"), 100)
    assert passes.make().runs == 4
    assert passes.make().runs == 0


def test_the_window_is_filled_up_once_half_of_it_is_free(passes):
    """So that what is admitted at once is enough for packets."""
    add_worker("q-lanes", 4)
    hold(make_lane(event="slow"), 12)
    first = ids_of(passes.make())
    assert len(first) == 4
    claim(first[:1])
    assert ids_of(passes.make()) == []
    claim(first[1:2])
    assert len(ids_of(passes.make())) == 2


def test_a_pass_looks_at_nothing_but_the_window_while_that_is_full_and_nobody_waits_at_a_gate(passes):
    hold(make_lane(event="slow"), 100)
    passes.make()
    with observed_statements() as seen:
        assert passes.make().runs == 0
    assert "admission.open_queues" in seen
    assert not {"admission.usage", "admission.full_gates", "admission.due_gates", "admission.reopen"} & set(seen)


def test_a_lane_that_is_new_is_open_though_the_window_is_full(passes):
    hold(make_lane("acme", event="slow"), 100)
    passes.make()
    late = make_lane("globex", event="slow")
    hold(late)
    assert (passes.make().runs, status(late)) == (0, "open")


def test_a_queue_without_a_worker_gets_a_window_too(passes):
    hold(make_lane(event="slow"), 100)
    assert passes.make().runs == 1


def test_a_queue_that_is_full_does_not_keep_another_one(passes):
    hold(make_lane(event="slow"), 100)
    passes.make()
    other = hold(make_lane(event="slow", queue="q-other"))
    assert ids_of(passes.make()) == other


def test_tenants_take_turns_however_much_one_has(passes):
    hold(make_lane("acme", event="slow"), 500)
    passes.make()
    add_worker("q-lanes", 7)
    late = hold(make_lane("globex", event="slow"), 3)
    admitted = ids_of(passes.make())
    assert (len(admitted), set(late) <= set(admitted)) == (6, True)


def test_who_comes_later_has_saved_up_nothing(passes, places):
    hold(make_lane("acme", event="slow"), 700)
    claim(ids_of(passes.make()))
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET processes = 100")
    hold(make_lane("acme", event="slow"), 500)
    hold(make_lane("globex", event="slow"), 500)
    claim(ids_of(passes.make()))
    with autocommit() as connection:
        counts = "SELECT tenant_id, count(*) FROM cgk.runs WHERE state = 'running' GROUP BY 1"
        shares = dict(connection.execute(counts).fetchall())
    assert (shares["acme"] - 700, shares["globex"]) == (50, 50)


def test_a_tenant_that_was_suspended_while_others_went_on_gets_its_turn_again_and_has_saved_up_nothing(passes, places):
    lane = make_lane("acme", event="slow")
    waiting = hold(lane)
    suspend_tenant("acme")
    try:
        for _ in range(3):
            hold(make_lane("globex", event="slow"))
            assert passes.make().runs == 1
        assert (passes.sweep(), status(lane)) == (0, "empty")
    finally:
        resume_tenant("acme")
    hold(make_lane("globex", event="slow"))
    passes.sweep()
    assert waiting[0] in ids_of(passes.make())
    with autocommit() as connection:
        vtimes = dict(connection.execute("SELECT tenant_id, vtime FROM cgk.shares").fetchall())
    assert vtimes["acme"] >= 2 * SECONDS["slow"]


def test_a_tenant_with_many_keys_gets_no_more_than_one_with_one(passes):
    add_worker("q-lanes", 20)
    for key in range(50):
        hold(make_lane("acme", make_gate(f"acme:{key}", at_once=1), event="slow"), 5)
    other = hold(make_lane("globex", event="slow"), 50)
    assert len(set(ids_of(passes.make())) & set(other)) == 10


def test_a_tenant_with_many_keys_has_all_of_the_places_when_nobody_else_waits(passes):
    add_worker("q-lanes", 200)
    rule = make_rule()
    for key in range(150):
        hold(make_lane("acme", make_gate(f"acme:{key}", rule=rule, at_once=1), event="slow"), 2)
    assert passes.make().runs == 150


def test_a_limit_may_be_exceeded_while_nobody_else_waits(passes):
    add_worker("q-lanes", 10)
    gate = make_gate(at_once=2, lend_to=5)
    hold(make_lane("acme", gate, event="slow"), 20)
    assert passes.make().runs == 2
    passes.make()
    assert slots_of(gate) == 5


def test_a_limit_is_not_exceeded_while_the_window_is_full(passes):
    add_worker("q-lanes", 4)
    gate = make_gate(at_once=2, lend_to=5)
    hold(make_lane("acme", gate, event="slow"), 20)
    hold(make_lane("globex", event="slow"), 20)
    passes.make()
    passes.make()
    assert slots_of(gate) == 2


def test_no_more_start_than_a_bucket_allows_and_the_others_when_it_opens(passes, places):
    lane = make_lane("acme", make_gate(rate=1, period=0.3, burst=2), event="slow")
    runs = hold(lane, 3)
    assert (ids_of(passes.make()), status(lane)) == (runs[:2], "closed")
    assert passes.make().runs == 0
    assert wait_until(lambda: ids_of(passes.make()), what="the bucket opens") == runs[2:]


def test_many_lanes_at_one_bucket_are_all_looked_at(passes, places):
    gate = make_gate(rate=100, period=1.0, burst=3)
    runs = [hold(make_lane(f"t{n}", gate, event="slow"))[0] for n in range(40)]
    admitted = []
    wait_until(lambda: (admitted.extend(ids_of(passes.make())), len(admitted) == 40)[1], what="all are admitted")
    assert sorted(admitted) == sorted(runs)


def test_a_gate_that_is_closed_until_a_time_lets_nobody_through_before(passes, places):
    gate = make_gate(at_once=5)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now() + interval '1 hour' WHERE id = %s", [gate])
    lane = make_lane("acme", gate)
    run = hold(lane)
    assert (passes.make().runs, status(lane)) == (0, "closed")
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now() WHERE id = %s", [gate])
    assert ids_of(passes.make()) == run


def test_lanes_at_a_gate_that_was_removed_go_on(passes, places):
    full, closed = make_gate(at_once=1), make_gate(rate=1, period=3600.0, burst=1)
    for gate in (full, closed):
        hold(make_lane("acme", gate, event="slow"), 2)
    passes.make()
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.gates WHERE id = ANY(%s)", [[full, closed]])
    passes.sweep()
    assert passes.make().runs == 2


def test_runs_that_were_cancelled_meanwhile_cost_their_tenant_nothing(passes, places):
    lane = make_lane("acme", event="slow")
    finish(hold(lane, 5))
    passes.make()
    with autocommit() as connection:
        (vtime,) = connection.execute("SELECT vtime FROM cgk.shares").fetchone()
    assert (vtime, status(lane)) == (0.0, "empty")


def overtime(passes, children=0):
    """What acme owes for a minute of a run that has been on for an hour. Its weight is 2."""
    runs = hold(make_lane("acme", event="slow"))
    claim(ids_of(passes.make()))
    with autocommit() as connection:
        change = "UPDATE cgk.runs SET started_at = now() - interval '1 hour', children_open = %s WHERE id = %s"
        connection.execute(change, [children, runs[0]])
        connection.execute("UPDATE cgk.passes SET charged_at = now() - interval '1 minute'")
        connection.execute("UPDATE cgk.shares SET vtime = 0, weight = 2")
    passes.charge_overtime()
    passes.charge_overtime()
    with autocommit() as connection:
        return connection.execute("SELECT vtime FROM cgk.shares").fetchone()[0]


def test_a_tenant_pays_for_what_its_run_takes_beyond_what_was_expected_by_its_weight(passes, places):
    assert 30 <= overtime(passes) < 32


@pytest.fixture
def two_processes():
    add_worker("q-lanes", 2)


def test_runs_of_many_tenants_that_wait_with_one_each_travel_together(passes, two_processes):
    lanes = [make_lane(f"t{number}", event="quick") for number in range(64)]
    runs = {run for lane in lanes for run in hold(lane)}
    packets = passes.make().packets
    assert {run.id for packet in packets for run in packet} == runs
    assert [len(packet) for packet in packets] == [16] * 4


def test_runs_that_wait_for_a_limit_travel_with_no_other_lane(passes, two_processes):
    rule = make_rule()
    for number in range(64):
        hold(make_lane(f"t{number}", make_gate(f"t{number}", rule=rule, at_once=1), event="quick"))
    assert [len(packet) for packet in passes.make().packets] == [1] * 64


def test_tenants_whose_runs_travel_together_share_what_the_packet_takes_too_long(passes, two_processes):
    for number in range(64):
        hold(make_lane(f"t{number}", event="quick"))
    packet = passes.make().packets[0]
    claim([run.id for run in packet])
    with autocommit() as connection:
        started = "UPDATE cgk.runs SET started_at = now() - interval '1 hour' WHERE id = ANY(%s::uuid[])"
        connection.execute(started, [[run.id for run in packet]])
        connection.execute("UPDATE cgk.passes SET charged_at = now() - interval '1 minute'")
        connection.execute("UPDATE cgk.shares SET vtime = 0")
    passes.charge_overtime()
    with autocommit() as connection:
        owed = dict(connection.execute("SELECT tenant_id, vtime FROM cgk.shares WHERE vtime > 0").fetchall())
    assert owed.keys() == {run.tenant_id for run in packet}
    assert all(60 / 16 <= seconds < 64 / 16 for seconds in owed.values())


def test_a_run_that_waits_for_its_child_runs_costs_nothing(passes, places):
    assert overtime(passes, children=2) == 0


# ---- what goes wrong, and what happens at once


def test_a_lane_whose_sender_died_before_it_told_it_is_found(passes, places):
    lane = make_lane("acme", event="slow")
    runs = hold(lane, 3, told=False)
    assert passes.make().runs == 0
    assert passes.sweep() == 1
    assert ids_of(passes.make()) == runs


def test_a_run_of_which_nobody_told_a_lane_that_has_others_is_found(passes, places):
    lane = make_lane("acme", make_gate(at_once=1), event="slow")
    first = hold(lane)
    passes.make()
    hold(lane, 2)
    earlier = hold(lane, since=datetime.now(UTC) - timedelta(hours=1), told=False)
    assert (passes.sweep(), passes.sweep()) == (1, 0)
    finish(first)
    assert ids_of(passes.make()) == earlier


def test_many_runs_of_which_nobody_told_are_not_admitted_one_by_one(passes, places):
    lane = make_lane("acme", event="quick")
    hold(lane, 1)
    hold(lane, 80, told=False)
    admitted = []
    for _ in range(4):
        admitted += ids_of(passes.make())
        passes.sweep()
    assert len(admitted) == 81


def days_pass():
    with autocommit() as connection:
        connection.execute("UPDATE cgk.lanes SET used_at = used_at - interval '2 days'")


def count(table):
    with autocommit() as connection:
        return connection.execute(f"SELECT count(*) FROM cgk.{table}").fetchone()[0]


def test_lanes_and_gates_that_nobody_uses_for_long_are_forgotten(passes, places):
    shared = make_gate(at_once=9)
    old = [make_lane("acme", shared, make_gate(at_once=1), event="slow") for _ in range(3)]
    finish(hold(old[0]))
    passes.make()
    days_pass()
    make_lane("globex", shared)
    passes.prune()
    assert (count("lanes"), count("gates")) == (1, 1)


@pytest.mark.parametrize("admitted", [0, 1])
def test_lanes_whose_runs_wait_or_run_are_kept(passes, places, admitted):
    hold(make_lane("acme", make_gate(at_once=1), event="slow"), told=bool(admitted))
    assert passes.make().runs == admitted
    days_pass()
    passes.prune()
    assert (count("lanes"), count("gates")) == (1, 1)


def test_a_lane_that_is_looked_up_is_kept(passes):
    gate = make_gate(at_once=1)
    make_lane("acme", gate)
    days_pass()
    make_lane("acme", gate)
    passes.prune()
    assert (count("lanes"), count("gates")) == (1, 1)


def test_a_bucket_that_is_not_full_is_kept(passes, places):
    hold(make_lane("acme", make_gate(rate=1, period=3600.0, burst=2)), 2)
    finish(ids_of(passes.make()))
    days_pass()
    passes.prune()
    assert count("gates") == 1


def test_runs_of_a_lane_that_is_gone_are_left_to_the_dispatcher(passes):
    lane = make_lane("acme")
    hold(lane, told=False)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.lanes")
    passes.sweep()
    with autocommit() as connection:
        assert connection.execute("SELECT state, lane_id FROM cgk.runs").fetchall() == [("held", None)]


def test_runs_that_the_broker_did_not_take_are_admitted_again(passes, places):
    gate = make_gate(at_once=2)
    runs = hold(make_lane("acme", gate, event="slow"), 3)
    passes.make()
    hold_unpublished(runs[:2])
    assert (slots_of(gate), ids_of(passes.make())) == (0, runs[:2])


def test_a_run_that_was_claimed_meanwhile_is_not_held_because_its_message_seemed_lost(passes, places):
    runs = hold(make_lane("acme", event="slow"), 1)
    passes.make()
    claim(runs)
    hold_unpublished(runs)
    with autocommit() as connection:
        assert connection.execute("SELECT state FROM cgk.runs").fetchone()[0] == "running"


def test_passes_are_made_once_every_living_worker_knows_them():
    is_on = []
    for revision, silent_for in (("0013", "0 s"), (None, "0 s"), (None, "1 hour"), ("0017", "0 s")):
        add_worker("q-lanes", 1)
        with autocommit() as connection:
            connection.execute(
                "UPDATE cgk.workers SET revision = %s, heartbeat_at = now() - %s::interval", [revision, silent_for]
            )
            is_on.append(Switch().is_on)
            connection.execute("TRUNCATE cgk.workers")
    assert is_on == [False, False, True, True]


PUT_BACK = {
    "is put back by its worker": "UPDATE cgk.runs SET state = 'pending', handed_over_at = NULL",
    "is reclaimed": "UPDATE cgk.runs SET state = 'pending', deaths = 1, handed_over_at = NULL, hand_overs = 0",
    "waits for its next attempt": "UPDATE cgk.runs SET state = 'retrying', handed_over_at = NULL",
    "is dispatched again": "UPDATE cgk.runs SET handed_over_at = clock_timestamp()",
    "is held": "UPDATE cgk.runs SET state = 'held'",
}


@pytest.mark.parametrize("what", PUT_BACK)
def test_the_slot_of_a_run_ends_when_the_run(passes, places, what):
    gate = make_gate(at_once=1)
    first = hold(make_lane("acme", gate, event="slow"))
    assert ids_of(passes.make()) == first
    other = hold(make_lane("acme", gate, event="quick"))
    assert passes.make().runs == 0
    with autocommit() as connection:
        connection.execute(f"{PUT_BACK[what]} WHERE id = %s", first)
    assert ids_of(passes.make()) == other


def test_a_pass_that_breaks_off_leaves_everything_as_it_was(passes, places, monkeypatch):
    gate = make_gate(at_once=2)
    lane = make_lane("acme", gate, event="slow")
    runs = hold(lane, 5)
    with monkeypatch.context() as broken:
        broken.setattr("cgk_tasks.admission.one_pass.packets", lambda _rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            passes.make()
    assert (slots_of(gate), status(lane), ids_of(passes.make())) == (0, "new", runs[:2])


def test_what_a_process_remembers_is_not_used_when_another_has_made_a_pass(places):
    gate = make_gate(at_once=3)
    hold(make_lane("acme", gate, event="slow"), 10)
    first, second = Passes(SECONDS.get), Passes(SECONDS.get)
    finish(ids_of(first.make())[:1])
    second.make()
    finish_one = ids_of(first.make())
    assert (finish_one, slots_of(gate)) == ([], 3)


def test_what_a_process_remembers_is_not_used_when_postgresql_has_forgotten_passes(passes, places):
    gate = make_gate(at_once=3)
    hold(make_lane("acme", gate, event="slow"), 10)
    with autocommit() as connection:
        before = connection.execute("SELECT last_value FROM cgk.slot_numbers").fetchone()[0]
        passes.make()
        connection.execute("UPDATE cgk.passes SET frontier = 0, known = '{}'")
        connection.execute("SELECT setval('cgk.slot_numbers', %s)", [before])
    passes.make()
    assert slots_of(gate) == 3


def test_a_lane_that_is_told_while_a_pass_empties_it_is_not_forgotten(passes, places):
    lane = make_lane("acme", event="slow")
    hold(lane)
    late = []

    def tell_meanwhile(statement, _seconds, _error):
        if statement.label == "transitions.admit" and not late:
            late.extend(hold(lane, told=False))
            teller.start()

    def tell_it():
        with autocommit() as connection:
            tell(connection, {lane: Told(1, datetime.now(UTC))})  # waits for the pass, which has opened the lane

    teller = threading.Thread(target=tell_it)
    door.observe(tell_meanwhile)
    try:
        passes.make()
    finally:
        door.forget_observer(tell_meanwhile)
    teller.join()
    assert (status(lane), ids_of(passes.make())) == ("new", late)


def test_a_lane_that_is_told_before_a_pass_settles_it_stays_new(passes):
    lane = make_lane("acme", event="slow")
    runs = hold(lane, 2)
    passes.make()
    claim(runs[:1])
    late = []

    def tell_meanwhile(statement, _seconds, _error):
        if statement.label == "transitions.admit" and not late:
            late.extend(hold(lane))  # the lane was open before this pass, so nobody holds its row yet

    door.observe(tell_meanwhile)
    try:
        admitted = ids_of(passes.make())
    finally:
        door.forget_observer(tell_meanwhile)
    assert (admitted, status(lane)) == (runs[1:], "new")
    claim(admitted)
    assert ids_of(passes.make()) == late


def test_a_run_that_is_cancelled_while_it_is_being_admitted_is_not_admitted(passes, places, database):
    lane = make_lane("acme", event="slow")
    runs = hold(lane, 2)
    with psycopg.connect(database) as canceller:
        canceller.execute("DELETE FROM cgk.runs WHERE id = %s", [runs[0]])
        admitted = []
        passing = threading.Thread(target=lambda: admitted.extend(ids_of(passes.make())))
        passing.start()
        with autocommit() as connection:
            waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%picked%'"
            wait_until(lambda: connection.execute(waiting).fetchall(), what="the pass waits for the row")
    passing.join()
    assert admitted == runs[1:]


def test_two_leaders_and_many_senders_never_exceed_a_limit_and_all_runs_get_through(places):
    """Looked at in every commit that another connection can see."""
    total, own = (
        make_gate(at_once=7),
        {tenant: make_gate(tenant, at_once=2) for tenant in ("t1", "t2", "t3", "t4", "t5")},
    )
    lanes = {tenant: make_lane(tenant, own[tenant], total, event="slow") for tenant in own}
    sent, ended, too_many, over = [], [], [], threading.Event()

    def send(tenant):
        for _ in range(12):
            sent.extend(hold(lanes[tenant], 2))

    def lead():
        passes = Passes(SECONDS.get)
        while not over.is_set():
            admitted = ids_of(passes.make())
            claim(admitted)
            for run in admitted:
                finish([run])
                ended.append(run)

    def look():
        with autocommit() as connection:
            while not over.is_set():
                counts = {gate: slots_of(gate, connection) for gate in (total, *own.values())}
                too_many.extend(gate for gate, slots in counts.items() if slots > (7 if gate == total else 2))

    threads = [threading.Thread(target=send, args=[tenant]) for tenant in own for _ in range(2)]
    threads += [threading.Thread(target=lead) for _ in range(2)] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(ended) == 240, 60, "all runs have ended")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert (sorted(ended), too_many) == (sorted(sent), [])
