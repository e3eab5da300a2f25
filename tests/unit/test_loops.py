"""One of a thing for each event loop."""

import asyncio
import gc
import threading

import pytest

from cgk_tasks.sql.loops import PerLoop


class Thing:
    is_closed = False

    def close(self):
        self.is_closed = True


@pytest.fixture
def things():
    return PerLoop(Thing, Thing.close)


async def current(things):
    return things.current()


def in_a_loop_that_stays_open(things):
    loop = asyncio.new_event_loop()
    return loop, loop.run_until_complete(current(things))


def test_a_loop_has_one_of_its_own(things):
    async def both():
        return things.current(), things.current()

    first, again = asyncio.run(both())
    other = asyncio.run(current(things))
    assert first is again
    assert other is not first


def test_there_is_none_without_a_running_loop(things):
    with pytest.raises(RuntimeError):
        things.current()


def test_what_a_loop_left_behind_is_closed_when_another_one_needs_its_own(things):
    loop, left = in_a_loop_that_stays_open(things)
    loop.close()
    asyncio.run(current(things))
    assert left.is_closed


def test_what_belongs_to_a_loop_that_is_still_open_stays_open(things):
    loop, kept = in_a_loop_that_stays_open(things)
    asyncio.run(current(things))
    assert not kept.is_closed
    assert loop.run_until_complete(current(things)) is kept
    loop.close()


def test_all_are_closed_together_and_the_next_use_makes_others(things):
    loop, first = in_a_loop_that_stays_open(things)
    things.close()
    assert first.is_closed
    assert not loop.run_until_complete(current(things)).is_closed
    loop.close()


def test_a_loop_that_is_gone_keeps_nothing(things):
    loop, _ = in_a_loop_that_stays_open(things)
    loop.close()
    del loop, _
    gc.collect()
    assert len(things._made) == 0


def test_loops_of_many_threads_do_not_meet(things):
    found, start = [], threading.Barrier(8)

    def work():
        start.wait()
        found.append(asyncio.run(current(things)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 8
