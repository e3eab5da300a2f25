"""When the leader makes a pass: whenever one may find something, and no oftener than that."""

import time

import pytest

from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker.admission import Admission
from cgk_tasks.worker.missing_tables import MissingTables
from tests.support.lanes import add_worker, finish, hold, make_gate, make_lane
from tests.support.waiting import wait_until

LONG_AGO, NEVER = -1e9, 1e9


@pytest.fixture
def leader(database, setting):
    setting(CGK_WINDOW_SECONDS=None)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    add_worker("q-lanes", 1000)
    return Admission(lambda: True, MissingTables())


@pytest.fixture
def passes(leader):
    """The statement with which a pass begins, as often as it was executed."""
    found = []

    def observer(statement, _seconds, _error):
        if statement.label == "admission.begin":
            found.append(statement.label)

    leader.turn()
    door.observe(observer)
    yield found
    door.forget_observer(observer)


@pytest.fixture
def full_gate(leader):
    """A run that holds the only place of a gate, and one that waits for it since long ago."""
    running, _waiting = hold(make_lane("acme", make_gate(at_once=1), event="slow", alone=True), 2)
    for _ in range(3):
        leader.turn()
    leader._admitted_at = LONG_AGO
    return running


def test_no_pass_is_made_while_no_lane_waits(leader, passes):
    leader.turn()
    assert passes == []


def test_a_full_gate_is_looked_at_now_and_then(leader, full_gate, passes):
    leader._look_at = NEVER
    leader.turn()
    assert passes == []
    leader._look_at = LONG_AGO
    leader.turn()
    assert len(passes) == 1


def test_after_a_look_in_vain_the_next_one_is_a_second_away_and_new_lanes_are_looked_for_meanwhile(leader, full_gate):
    leader._look_at, before = LONG_AGO, time.monotonic()
    assert leader.turn() == pytest.approx(0.1)
    assert before + 1.0 <= leader._look_at <= time.monotonic() + 1.0


def test_a_lane_that_is_told_is_looked_at_at_once_though_gates_are_full(leader, full_gate, passes):
    leader._look_at = NEVER
    hold(make_lane("globex", event="slow"))
    leader.turn()
    assert len(passes) == 1


def test_a_gate_whose_time_has_come_is_looked_at_at_once(leader, full_gate, passes):
    leader._look_at = NEVER
    gate = make_gate()
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now() WHERE id = %s", [gate])
    leader.turn()
    assert len(passes) == 1


def test_a_gate_whose_time_is_to_come_is_left_alone(leader, full_gate, passes):
    leader._look_at = NEVER
    gate = make_gate()
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now() + interval '1 hour' WHERE id = %s", [gate])
    leader.turn()
    assert passes == []


def test_a_place_that_becomes_free_is_found_within_a_second(leader, full_gate):
    leader.turn()
    finish([full_gate])
    wait_until(lambda: leader.turn() is not None and nothing_is_held(), 5)


def nothing_is_held():
    with autocommit() as connection:
        return not connection.execute("SELECT FROM cgk.runs WHERE state = 'held'").fetchall()
