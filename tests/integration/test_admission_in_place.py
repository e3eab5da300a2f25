"""Workers admit runs that they have claimed and that nobody waits before."""

import threading
from types import SimpleNamespace

import pytest

from cgk_tasks.admission.in_place import InPlace
from cgk_tasks.admission.passes import Passes
from cgk_tasks.sql.postgres import autocommit
from tests.support.lanes import add_worker, finish, hold, ids_of, make_gate, make_lane, start


@pytest.fixture(autouse=True)
def lanes(database):
    """No lanes of other tests, and a worker with many places."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    add_worker("q-lanes", 1000)


def admit(lane, ids, limits=1):
    """Whether a worker that has claimed these runs may execute them now."""
    runs = [SimpleNamespace(id=run, attempt=1) for run in ids]
    with autocommit() as connection:
        return InPlace().admit(connection, runs, lane, limits, None)


def test_a_run_that_is_alone_has_a_place_until_it_ends():
    lane = make_lane("acme", make_gate(at_once=1))
    first, second = start(), start()
    assert (admit(lane, first), admit(lane, second)) == (True, False)
    finish(first)
    assert admit(lane, second)


def test_the_runs_of_a_packet_have_one_place():
    lane = make_lane("acme", make_gate(at_once=2))
    assert [admit(lane, start(10)) for _ in range(3)] == [True, True, False]


def test_a_pass_counts_the_place():
    lane = make_lane("acme", make_gate(at_once=1), event="slow")
    running = start()
    admit(lane, running)
    waiting = hold(lane)
    passes = Passes({"slow": 5.0}.get)
    assert passes.make().runs == 0
    finish(running)
    assert ids_of(passes.make()) == waiting


def test_the_places_that_passes_have_given_are_counted():
    lane = make_lane("acme", make_gate(at_once=1), event="slow")
    hold(lane)
    assert Passes({"slow": 5.0}.get).make().runs == 1
    assert not admit(lane, start())


def test_a_place_of_before_is_counted_once_later_ones_are_noted():
    gate = make_gate(at_once=2)
    lane, other = make_lane("acme", gate), make_lane("acme", make_gate(at_once=9))
    assert admit(lane, start())
    for _ in range(3):
        assert admit(other, start())  # each a process of its own, which notes what it has found
    assert (admit(lane, start()), admit(lane, start())) == (True, False)


def test_all_gates_must_have_room():
    full, free = make_gate(at_once=1), make_gate(at_once=1)
    assert admit(make_lane("acme", full), start())
    assert not admit(make_lane("acme", free, full), start(), limits=2)
    assert admit(make_lane("acme", free), start())


def test_no_more_start_than_a_bucket_allows():
    lane = make_lane("acme", make_gate(rate=1, period=3600.0, burst=3))
    assert [admit(lane, start(runs)) for runs in (2, 2, 1, 1)] == [True, False, True, False]


def test_nobody_is_admitted_while_another_one_waits_for_a_pass():
    hold(make_lane("globex", event="slow"))
    assert not admit(make_lane("acme", make_gate(at_once=1)), start())


def test_nobody_is_admitted_while_another_one_waits_for_the_window_of_the_queue():
    hold(make_lane("globex", event="slow"), 5)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET processes = 1")
    passes = Passes({"slow": 5.0}.get)
    while passes.make().runs:
        pass
    lane = make_lane("acme", make_gate(at_once=1))
    assert (admit(lane, start()), admit(make_lane("acme", make_gate(at_once=1), queue="other"), start())) == (
        False,
        True,
    )


def test_nobody_is_admitted_while_another_one_waits_at_the_same_limit_and_others_are():
    shared, full = make_gate(at_once=9), make_gate(at_once=1)
    hold(make_lane("globex", full, shared, event="slow"), 2)
    passes = Passes({"slow": 5.0}.get)
    passes.make()
    assert not admit(make_lane("acme", full), start())
    assert admit(make_lane("acme", shared), start())


def test_a_run_is_not_admitted_before_those_of_its_lane():
    lane = make_lane("acme", make_gate(at_once=1), event="slow")
    running = hold(lane, 2)[:1]
    Passes({"slow": 5.0}.get).make()
    finish(running)
    assert not admit(lane, start())


def test_nobody_is_admitted_where_a_limit_is_gone():
    gate = make_gate(at_once=1)
    lane = make_lane("acme", gate)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.gates WHERE id = %s", [gate])
    assert not admit(lane, start())


def test_of_many_processes_at_once_no_more_are_admitted_than_there_are_places():
    lane = make_lane("acme", make_gate(at_once=2))
    admitted = []

    def try_often():
        for _ in range(20):
            run = start()
            if admit(lane, run):
                admitted.extend(run)

    threads = [threading.Thread(target=try_often) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 2
