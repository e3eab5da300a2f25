"""What a worker says with each heartbeat: that it lives, and what has changed."""

import os
import uuid

import pytest

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.runs.job_events import Route
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.worker.draining import Draining
from cgk_tasks.worker.presence import Presence
from tests.support.idle_pool import idle_pool
from tests.support.observed import observed_statements

SQL = statements("dispatch")
WHAT_IS_SAID_ONCE = {
    "schedules.note_job_events", "schedules.note_rules", "dispatch.note_worker", "admission.note_processes",
    "dispatch.register_worker",
}  # fmt: skip


class Known:
    """What a worker could say of itself."""

    processes = 2
    names = ("order.created",)
    events = {"order.created": Route()}


@pytest.fixture
def known():
    return Known()


@pytest.fixture
def returned():
    return []


@pytest.fixture
def worker_id(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.workers, cgk.presence, cgk.job_events")
    assert SWITCH.current().is_on
    return str(uuid.uuid4())


@pytest.fixture
def presence(worker_id, known, returned):
    pool = idle_pool(
        name="present@test",
        processes=lambda: known.processes,
        events=lambda: known.events,
        executes=lambda: known.names,
    )
    draining = Draining(worker_id, lambda: known.processes, lambda: None)
    return Presence(worker_id, pool, draining, lambda: returned.append(worker_id))


@pytest.fixture
def heard():
    """The statements that run in a test."""
    with observed_statements() as found:
        yield found


def row(worker_id):
    with autocommit() as connection:
        (found,) = connection.execute(
            "SELECT name, pid, executes, processes, pool_size FROM cgk.workers WHERE id = %s", [worker_id]
        ).fetchall()
    return found


def change(statement, *values):
    with autocommit() as connection:
        connection.execute(statement, values)


def test_the_first_one_says_all(presence, worker_id, heard):
    presence.beat()
    assert row(worker_id) == ("present@test", os.getpid(), ["order.created"], 2, 2)
    assert set(heard) >= WHAT_IS_SAID_ONCE


def test_where_nothing_has_changed_it_is_one_statement(presence, heard):
    presence.beat()
    SWITCH.current()._ask_at = float("inf")  # it is asked now and then by whoever comes first
    heard.clear()
    # Memory is noted in whole MiB, and may just have passed one of them.
    presence.beat()
    assert [label for label in heard if label != "dispatch.note_worker"] == ["dispatch.heartbeat"]


def test_each_is_heard(presence, worker_id):
    presence.beat()
    change("UPDATE cgk.workers SET heartbeat_at = now() - interval '1 hour' WHERE id = %s", worker_id)
    presence.beat()
    with autocommit() as connection:
        assert connection.execute("SELECT now() - max(heartbeat_at) < interval '1 minute' FROM cgk.workers").fetchone()[
            0
        ]


def test_what_has_changed_is_said(presence, worker_id, known):
    presence.beat()
    known.processes, known.names, known.events = 4, ("sms.sent",), {"sms.sent": Route("slow")}
    presence.beat()
    assert row(worker_id) == ("present@test", os.getpid(), ["sms.sent"], 4, 4)
    with autocommit() as connection:
        assert connection.execute("SELECT queue FROM cgk.job_events WHERE event = 'sms.sent'").fetchall() == [("slow",)]


def test_a_worker_that_was_given_up_comes_back_and_says_all_again(presence, worker_id, returned, heard):
    presence.beat()
    assert not returned
    change("DELETE FROM cgk.presence")
    change("DELETE FROM cgk.workers")
    heard.clear()
    presence.beat()
    assert returned == [worker_id]
    assert row(worker_id) == ("present@test", os.getpid(), ["order.created"], 2, 2)
    assert "transitions.assert_claims" in heard


def test_after_a_crash_of_postgresql_it_says_again_what_it_runs(presence, worker_id, returned, heard):
    presence.beat()
    change("DELETE FROM cgk.presence")  # the table is unlogged, so a crash empties it
    presence.beat()
    assert returned == [worker_id]
    assert heard.index("transitions.assert_claims") > heard.index("dispatch.heartbeat")
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.presence").fetchone() == (1,)


def test_who_is_not_registered_is_not_heard(worker_id):
    """Else others would wait for what it runs."""
    values = dict.fromkeys(("pid_namespace", "process_started", "clock_offset", "executes"))
    with autocommit() as connection:
        values |= {"id": worker_id, "name": "nobody@test", "pid": 1, "queues": []}
        assert fetch(connection, SQL["heartbeat"], values) == []
        assert connection.execute("SELECT count(*) FROM cgk.workers").fetchone() == (0,)


def test_a_row_that_somebody_has_removed_is_made_whole_within_two_heartbeats(presence, worker_id):
    presence.beat()
    change("DELETE FROM cgk.workers")
    presence.beat()
    presence.beat()
    assert row(worker_id) == ("present@test", os.getpid(), ["order.created"], 2, 2)
