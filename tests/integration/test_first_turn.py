"""A supervisor begins once its worker has something to do, so that a start is not slowed down by it."""

import uuid

import pytest

from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import supervisor
from cgk_tasks.worker.supervisor import Supervisor
from tests.support.idle_pool import idle_pool
from tests.support.waiting import wait_until


@pytest.fixture
def late(database, monkeypatch):
    """One that would not begin by itself for an hour."""
    monkeypatch.setattr(supervisor, "_FIRST_TURN_SECONDS", 3600.0)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.leases")
    one = Supervisor(str(uuid.uuid4()), idle_pool())
    one.start()
    yield one
    one.stop()
    one.join(20)
    assert not one.is_alive()


def test_it_leads_once_the_pool_was_given_a_message(late):
    assert not late.leads
    late.begin()
    wait_until(lambda: late.leads)


def test_it_stops_also_where_no_message_came(late):
    assert not late.leads


def test_it_begins_without_a_message_in_the_end(database, monkeypatch):
    monkeypatch.setattr(supervisor, "_FIRST_TURN_SECONDS", 0.01)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.leases")
    one = Supervisor(str(uuid.uuid4()), idle_pool())
    one.start()
    try:
        wait_until(lambda: one.leads)
    finally:
        one.stop()
