"""What the main process learns from the memory that it shares with its children."""

import os
import signal

import psutil
import pytest
from billiard.context import ForkContext
from billiard.process import current_process

from cgk_tasks.runs.models import new_run_id
from cgk_tasks.worker.process_state import ProcessState
from cgk_tasks.worker.processes import paused
from tests.support.waiting import wait_until

FIRST, SECOND = new_run_id(), new_run_id()


def work_on_two_runs(state, told, done):
    """In a child: a run whose limit passes, and, once told to, another one, until it is killed."""
    current_process().index = 0
    state.take_slot()
    state.begin()
    first = state.limit(FIRST, 0.001)
    told.recv()
    state.lift_limit(first)
    state.limit(SECOND, 600)
    done.send("the second one is on")
    signal.pause()


@pytest.fixture
def child():
    """The state, the child's pid, and a function that has it go on to its second run."""
    fork = ForkContext()
    state = ProcessState()
    told, tell = fork.Pipe(duplex=False)
    wait_for, done = fork.Pipe(duplex=False)
    process = fork.Process(target=work_on_two_runs, args=(state, told, done))
    process.start()

    def go_on():
        tell.send("go on")
        wait_for.recv()

    yield state, process.pid, go_on
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_run_over_its_hard_limit_is_named_once(child):
    state, pid, _ = child
    (found,) = wait_until(state.over_limit, 30, "a run over its limit")
    assert (found.id, found.pid, found.seconds, state.over_limit()) == (FIRST, pid, 0.001, [])


def test_a_run_over_its_hard_limit_stays_so_while_it_is_on(child):
    state, _, _ = child
    (found,) = wait_until(state.over_limit, 30, "a run over its limit")
    assert state.is_over_limit(found)


def test_a_child_that_went_on_to_another_run_is_not_over_the_limit_of_the_first(child):
    state, pid, go_on = child
    (found,) = wait_until(state.over_limit, 30, "a run over its limit")
    go_on()
    with paused(pid):
        assert not state.is_over_limit(found)


def test_a_paused_process_is_stopped_inside_the_block_alone(child):
    _, pid, _ = child
    with paused(pid):
        inside = psutil.Process(pid).status()
    assert inside == psutil.STATUS_STOPPED
    assert wait_until(lambda: psutil.Process(pid).status() != psutil.STATUS_STOPPED, 30, "the process to go on")
