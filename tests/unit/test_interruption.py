"""What interrupts a run is raised in its job or not at all: never in what its thread does next."""

import _thread
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cgk_tasks import uninterrupted
from cgk_tasks.errors import RunCancelledError
from cgk_tasks.uninterrupted import raise_in
from cgk_tasks.worker import interruption
from cgk_tasks.worker.interruption import RunInterrupted, interruptible
from tests.support.code_steps import act_at

ENDS = {"whole", RunCancelledError, RunInterrupted}


def steps(seconds):
    """Python code that an error can be raised in."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "whole"


def cancel():
    interruption.interrupt_own()


def end_the_grace():
    interruption.interrupt_all([os.getpid()])


def meanwhile(function):
    """Have another thread call it, and wait for that in one step; no longer than it takes where it waits for us."""
    done = _thread.allocate_lock()
    done.acquire()

    def call():
        try:
            function()
        finally:
            done.release()

    _thread.start_new_thread(call, ())
    done.acquire(timeout=0.2)


def end_of(job, run_id="run-1"):
    try:
        return interruptible(run_id, job)
    except (RunCancelledError, RunInterrupted) as exc:
        return type(exc)


@pytest.fixture
def listening():
    """Signals interrupt what runs in the main thread."""
    previous = signal.getsignal(interruption.SIGNAL)
    interruption.listen()
    yield
    signal.signal(interruption.SIGNAL, previous)


@pytest.fixture
def thread():
    """Calls a function in another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function: pool.submit(function).result(60)


def interrupted_at_each_step(interrupt):
    """The ends of a job that is interrupted at one step of the code around it after another."""
    ends = []
    while True:
        seen = []
        was_reached = act_at(len(ends) + 1, interrupt, lambda seen=seen: seen.append(end_of(lambda: "whole")),
                             interruption, uninterrupted)  # fmt: skip
        assert steps(0.001) == "whole"
        assert (interruption._running, interruption._cancelled, interruption._raised) == ({}, set(), {})
        assert interruptible("run-2", lambda: "whole") == "whole"
        if not was_reached:
            return ends
        ends += seen


@pytest.mark.parametrize("interrupt", [cancel, end_the_grace])
def test_wherever_a_run_is_interrupted_in_a_thread_it_has_an_end_of_its_own_and_nothing_else_has(thread, interrupt):
    ends = thread(lambda: interrupted_at_each_step(lambda: meanwhile(interrupt)))
    assert len(ends) > 8
    assert set(ends) <= ENDS
    assert "whole" not in ends[4:6]


def test_wherever_a_signal_interrupts_a_run_it_has_an_end_of_its_own_and_nothing_else_has(listening):
    ends = interrupted_at_each_step(cancel)
    assert len(ends) > 8
    assert set(ends) == {"whole", RunCancelledError}


def test_a_run_that_has_ended_while_somebody_looked_for_its_thread_leaves_the_thread_alone(thread, monkeypatch):
    looked, ended = threading.Event(), threading.Event()

    def raise_slowly(thread_id, error):
        looked.set()
        ended.wait(0.2)
        return raise_in(thread_id, error)

    def block():
        end = end_of(lambda: [threading.Thread(target=cancel).start(), looked.wait(20)] and "whole")
        ended.set()
        return end, steps(0.4)

    monkeypatch.setattr(interruption, "raise_in", raise_slowly)
    end, after = thread(block)
    assert end in ENDS
    assert after == "whole"


def test_a_run_that_is_cancelled_while_it_begins_is_interrupted(thread):
    """Whoever cancels says so before looking for the run; whoever runs says so before looking whether it is."""
    cancelled = []

    def begin():
        return act_at(3, lambda: interruption.request(os.getpid(), ["run-1"]), lambda: cancelled.append(
            end_of(lambda: steps(0.05))), interruption)  # fmt: skip

    assert thread(begin)
    assert cancelled == [RunCancelledError]
    interruption._cancelled.clear()
