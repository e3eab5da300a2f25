"""A message goes to an idle child at once: Celery's pool would write it one turn of the event loop later."""

import os
import time

import pytest
from celery import Celery
from celery.concurrency.prefork import TaskPool
from celery.concurrency.thread import TaskPool as ThreadPool
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from cgk_tasks.celery_tasks.pool_writes import write_at_once

CHILDREN = 2


class Loop:
    """Celery's pool of processes with the loop that serves it."""

    def __init__(self):
        self.hub = Hub()
        set_event_loop(self.hub)
        app = Celery(set_as_current=False)
        self.pool = TaskPool(CHILDREN, threads=False, putlocks=False, app=app, initargs=(app, "here"))
        self.pool.start()
        self.pool.register_with_event_loop(self.hub)
        self._turns = self.hub.create_loop()
        self.turn_until(lambda: len(self.pool._pool._all_inqueues) == CHILDREN)

    def turn_until(self, condition):
        give_up = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < give_up
            next(self._turns)

    @property
    def waiting(self):
        return len(self.pool._pool.outbound_buffer)


@pytest.fixture
def loop():
    before = get_event_loop()
    one = Loop()
    yield one
    one.pool._pool.terminate()
    one.pool._pool.join()
    one.hub.close()
    set_event_loop(before)


def test_a_job_is_on_its_way_before_the_loop_goes_on(loop):
    done = []
    loop.pool.apply_async(os.getpid, callback=done.append)
    assert loop.waiting == 1
    write_at_once(loop.pool)
    assert loop.waiting == 0
    loop.turn_until(lambda: done)
    assert done[0] != os.getpid()


def test_what_busy_children_cannot_take_waits_for_the_first_that_ends(loop):
    done = []
    for number in range(CHILDREN + 2):
        loop.pool.apply_async(str, (number,), callback=done.append)
        write_at_once(loop.pool)
    assert loop.waiting == 2
    loop.turn_until(lambda: len(done) == CHILDREN + 2)
    assert sorted(done) == ["0", "1", "2", "3"]


def test_a_job_that_is_larger_than_a_pipe_arrives_whole(loop):
    done = []
    loop.pool.apply_async(len, ("x" * 5_000_000,), callback=done.append)
    write_at_once(loop.pool)
    loop.turn_until(lambda: done)
    assert done == [5_000_000]


def test_a_job_whose_child_is_killed_before_it_reads_goes_to_another(loop):
    done = []
    first = loop.pool._pool._fileno_to_inq[min(loop.pool._pool._all_inqueues)]
    os.kill(first.pid, 9)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    loop.pool.apply_async(os.getpid, callback=done.append)
    write_at_once(loop.pool)
    loop.turn_until(lambda: done)
    assert done[0] not in {os.getpid(), first.pid}


def test_pools_of_threads_write_nothing():
    pool = ThreadPool(1)
    pool.start()
    write_at_once(pool)
    pool.stop()
