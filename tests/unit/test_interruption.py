"""What interrupts a run is raised in its job or not at all: never in what its thread does next."""

import _thread
import os
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from cgk_tasks import uninterrupted
from cgk_tasks.errors import RunCancelledError
from cgk_tasks.jobs import time_limit
from cgk_tasks.uninterrupted import raise_in
from cgk_tasks.worker import interruption
from cgk_tasks.worker.interruption import RunInterrupted, interruptible
from tests.support.code_steps import act_at
from tests.support.waiting import wait_until

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


@pytest.fixture
def meanwhile():
    """Has another thread call a function, and waits for that in one step; not for long where it waits for us."""
    calls = SimpleQueue()

    def call_each():
        while (call := calls.get()) is not None:
            call[0]()
            call[1].release()

    def call(function):
        done = _thread.allocate_lock()
        done.acquire()
        calls.put((function, done))
        done.acquire(timeout=0.2)

    other = threading.Thread(target=call_each)
    other.start()
    yield call
    calls.put(None)
    other.join(20)


def end_of(job):
    """What becomes of a run with this job, of a new id."""
    try:
        return interruptible(str(uuid.uuid4()), job)
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


def interrupted_at_each_step(interrupt, job=lambda: "whole", modules=(interruption, uninterrupted)):
    """The ends of a job that is interrupted at one step of the code around it after another."""
    ends = []
    while True:
        seen = []
        was_reached = act_at(len(ends) + 1, interrupt, lambda seen=seen: seen.append(end_of(job)), *modules)
        assert steps(0.001) == "whole"
        assert (interruption._running, interruption._cancelled, interruption._raised) == ({}, set(), {})
        assert interruptible("another", lambda: "whole") == "whole"
        if not was_reached:
            return ends
        ends += seen


@pytest.mark.parametrize("interrupt", [cancel, end_the_grace])
def test_wherever_a_run_is_interrupted_in_a_thread_it_alone_is(thread, meanwhile, interrupt):
    ends = thread(lambda: interrupted_at_each_step(lambda: meanwhile(interrupt)))
    assert len(ends) > 8
    assert set(ends) <= ENDS
    assert "whole" not in ends[4:6]


def test_wherever_a_signal_interrupts_a_run_it_alone_is(listening):
    ends = interrupted_at_each_step(cancel)
    assert len(ends) > 8
    assert set(ends) == {"whole", RunCancelledError}


def has_time():
    return time_limit.within(60, 120, lambda: "whole")


def test_wherever_a_signal_interrupts_a_run_no_time_limit_of_it_is_left(listening):
    ends = interrupted_at_each_step(cancel, has_time, [time_limit])
    assert len(ends) > 20
    assert set(ends) == {RunCancelledError}
    assert time_limit._timer.deadlines == []
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("interrupt", [cancel, end_the_grace])
def test_wherever_a_run_is_interrupted_in_a_thread_no_time_limit_of_it_is_left(thread, meanwhile, interrupt):
    ends = thread(lambda: interrupted_at_each_step(lambda: meanwhile(interrupt), has_time, [time_limit]))
    assert len(ends) > 20
    assert "whole" not in ends[:8]
    assert set(ends) <= ENDS
    wait_until(lambda: not any(isinstance(one, threading.Timer) for one in threading.enumerate()))


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
        try:
            interruptible("run-1", lambda: steps(0.05))
        except RunCancelledError as exc:
            cancelled.append(exc.run_id)

    def cancel_it():
        interruption.request(os.getpid(), ["run-1"])

    assert thread(lambda: act_at(3, cancel_it, begin, interruption))
    assert cancelled == ["run-1"]
