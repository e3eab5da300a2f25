"""A supervisor begins once its worker has something to do, so that a start is not slowed down by it."""

import threading
import uuid

import pytest

from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import supervisor
from cgk_tasks.worker.supervisor import Supervisor
from tests.support.idle_pool import idle_pool
from tests.support.waiting import wait_until


@pytest.fixture
def started(database, monkeypatch):
    """One that begins by itself after so many seconds."""
    made = []

    def start(seconds):
        monkeypatch.setattr(supervisor, "_FIRST_TURN_SECONDS", seconds)
        with autocommit() as connection:
            connection.execute("TRUNCATE cgk.leases")
        made.append(Supervisor(str(uuid.uuid4()), idle_pool()))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()


def test_it_leads_once_the_pool_was_given_a_message(started):
    one = started(3600.0)
    assert not one.leads
    one.begin()
    wait_until(lambda: one.leads)


def test_it_stops_also_where_no_message_came(started):
    one = started(3600.0)
    one.stop()
    one.join(20)
    assert not one.is_alive()


def test_it_begins_without_a_message_in_the_end(started):
    one = started(0.01)
    wait_until(lambda: one.leads)


def test_one_that_is_stopped_amid_its_first_turn_hears_no_more_hints(started, monkeypatch):
    amid, made, heard = threading.Event(), [], []

    def hear(on_hint):
        amid.set()
        wait_until(lambda: made and made[0]._stopping.is_set(), what="it is to stop")
        heard.append(new_hints(on_hint))
        return heard[0]

    new_hints = supervisor.new_hints
    monkeypatch.setattr(supervisor, "new_hints", hear)
    made.append(started(0.01))
    assert amid.wait(60)
    made[0].stop()
    wait_until(lambda: not heard[0].is_alive(), what="the thread that hears hints ends")
