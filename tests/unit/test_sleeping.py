"""Sleeping until a moment by the clock that all processes of the machine count alike."""

import pytest

from cgk_tasks.sql.clock import steady
from cgk_tasks.worker.lease import Lease
from cgk_tasks.worker.process_state import ProcessState
from cgk_tasks.worker.sleeping import sleep_until


def test_a_sleep_ends_at_its_moment():
    moment = steady() + 0.05
    while steady() < moment:  # a signal may end it before
        sleep_until(moment)
    assert steady() >= moment


def test_a_moment_that_has_passed_is_not_waited_for():
    begun = steady()
    sleep_until(begun - 1000)
    assert steady() - begun < 5


def test_a_lease_tells_when_it_would_be_over():
    lease = Lease()
    lease.begin(30)
    lease.renew(1000.0)
    assert lease.over_at == pytest.approx(1024.0)


def test_a_lease_that_has_not_begun_is_looked_at_soon():
    assert 0 < Lease().over_at - steady() <= 1


def test_processes_that_have_no_message_are_not_at_work():
    assert not ProcessState().at_work().busy


def test_a_thread_that_holds_a_run_is_at_work():
    state = ProcessState()
    state.hold([("0192f0c1-2345-7abc-8def-0123456789ab", 1)])
    assert state.at_work().busy


def test_other_children_are_other_work():
    state = ProcessState()
    state._slot = 1
    before = state.at_work()
    state.end()
    assert state.at_work() != before
