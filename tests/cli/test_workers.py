"""`cgk-tasks workers`."""

import uuid

import pytest

from cgk_tasks.flow.workers import list_workers
from cgk_tasks.sql.postgres import autocommit

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def worker():
    """A worker on record, alone."""
    values = {"id": str(uuid.uuid4()), "name": "w1@here"}
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.workers")
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, revision, pool_size, memory, heartbeat_at) VALUES"
            """ (%(id)s, %(name)s, 7, '{emails}', '0031', 2, '{"7": 104857600, "8": 52428800}',"""
            " now() + interval '1 hour')",
            values,
        )
    yield values["id"]
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.workers")


def test_workers_are_listed_with_what_they_do(cgk, worker):
    (listed,) = cgk("workers", "list", "--json").json
    assert (listed["name"], listed["state"], listed["runs"], listed["pool_size"]) == ("w1@here", "active", 0, 2)
    assert [(one["pid"], one["memory"]) for one in listed["processes"]] == [(8, 50 << 20)]
    table = cgk("workers", "list").out
    assert "w1@here" in table
    assert "150" in table  # MiB of both processes


def test_without_a_worker_it_says_how_to_start_one(cgk, worker):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.workers")
    listed = cgk("workers", "list")
    assert (listed.code, "celery -A cgk_tasks worker" in listed.err) == (0, True)


def test_a_worker_is_drained_with_who_and_why_and_resumed(cgk, worker):
    drained = cgk("workers", "drain", "w1@here", "--by", "ops", "--reason", "new kernel")
    assert (drained.code, drained.out) == (0, "w1@here: takes no more runs, and has 0\n")
    assert "no other worker takes runs of emails" in drained.err
    one = list_workers(worker)[0]
    assert (one.state, one.drain_wanted_by, one.drain_reason) == ("to be drained", "ops", "new kernel")
    resumed = cgk("workers", "resume", worker)
    assert (resumed.code, resumed.out) == (0, f"{worker}: takes runs\n")
    assert list_workers(worker)[0].state == "active"


def test_to_resume_one_that_works_is_no_error(cgk, worker):
    resumed = cgk("workers", "resume", "w1@here")
    assert (resumed.code, "It was not to be drained." in resumed.err) == (0, True)


@pytest.mark.parametrize("command", ["drain", "resume"])
def test_an_unknown_worker_is_an_error_that_says_where_to_look(cgk, worker, command):
    outcome = cgk("workers", command, "nobody@here")
    assert outcome.code == 1
    assert "'nobody@here'" in outcome.err
    assert "hint:  See: cgk-tasks workers list" in outcome.err


def test_what_is_drained_is_in_the_audit(cgk, worker):
    cgk("workers", "drain", "w1@here", "--by", "ops")
    with autocommit() as connection:
        line = connection.execute("SELECT who, via, action, subject FROM cgk.audit ORDER BY id DESC LIMIT 1").fetchone()
    assert line == ("ops", "cli", "drain worker", "w1@here")
