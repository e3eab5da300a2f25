"""What a process holds, and what becomes of it in a fork."""

import os
import threading

import pytest

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.runtime import Part, Runtime, current_runtime


@pytest.fixture
def runtime():
    runtime = Runtime()
    with runtime.active():
        yield runtime


def in_child(look):
    """What `look` returns in a forked child, as a text."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, str(look()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        found = said.read()
    os.waitpid(child, 0)
    return found


def test_a_part_is_made_once(runtime):
    part = Part(object)
    assert part.current() is part.current()


def test_each_runtime_has_a_part_of_its_own(runtime):
    part = Part(object)
    mine = part.current()
    with Runtime().active():
        assert part.current() is not mine
    assert part.current() is mine


def test_a_part_is_made_in_the_runtime_that_holds_it(runtime):
    part = Part(current_runtime)
    other = Runtime()
    assert other.make(part) is other


def test_a_runtime_is_active_in_its_thread_only(runtime):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(current_runtime()))
    thread.start()
    thread.join()
    assert seen[0] is not runtime


def test_a_forked_child_makes_its_own_parts(runtime):
    part = Part(os.getpid)
    part.current()
    assert in_child(lambda: part.current() == os.getpid()) == "True"


def test_a_forked_child_inherits_what_survives_a_fork(runtime):
    part = Part(os.getpid, survives_fork=True)
    part.current()
    assert int(in_child(part.current)) == os.getpid()


def test_a_forked_child_closes_nothing_that_its_parent_uses(runtime):
    closed = []
    part = Part(object, close=closed.append)
    part.current()
    assert in_child(lambda: (runtime.close(), len(closed))[1]) == "0"


def test_other_settings_close_what_was_made_with_the_old_ones(runtime):
    closed = []
    with_settings, without = Part(lambda: "a", close=closed.append), Part(object, of_settings=False)
    with_settings.current()
    kept = without.current()
    runtime.renew()
    assert (closed, without.current() is kept) == (["a"], True)


def test_what_two_threads_made_at_once_is_one_and_the_other_is_closed(runtime):
    both, closed = threading.Barrier(2), []

    def make():
        both.wait(5)
        return object()

    def use():
        with runtime.active():
            found.append(part.current())

    part = Part(make, close=closed.append)
    found = []
    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found[0] is found[1], len(closed), closed[0] is found[0]) == (True, 1, False)


def test_an_error_in_making_a_part_stands_alone():
    def fail():
        raise ConfigurationError("There is none.")

    with pytest.raises(ConfigurationError) as raised:
        Part(fail).current()
    assert raised.value.__context__ is None
