"""How long an attempt ran: runs of a packet are claimed together and written together, and each has its own time."""

import os

import pytest

from cgk_tasks import get_run, get_usage, send_job
from cgk_tasks.events import TenantEvent
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker.identity import worker_id


class Timed(TenantEvent, event="test.timed"):
    """Of which nobody has a job."""


@pytest.fixture(autouse=True)
def nothing_used(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.run_history, cgk.tenant_usage")


def durations(*took):
    """What is on record of runs that were claimed 10 s ago together, and of which each took so long."""
    ids = [send_job(Timed(tenant_id="acme"), queue="nobody-listens").id for _ in took]
    claimed = store.claim(ids, worker_id(), os.getpid())
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET started_at = now() - interval '10 s' WHERE id = ANY(%s::uuid[])", [ids])
        closings = [
            Closing(run.id, run.tenant_id, run.attempt, "completed", "job", "null", took=seconds)
            for run, seconds in zip(claimed, took, strict=True)
        ]
        assert len(ends.finish(connection, worker_id(), closings)) == len(ids)
    found = [get_run(run.id) for run in claimed]
    return [round((run.closed_at - run.started_at).total_seconds()) for run in found]


def test_a_run_has_the_time_of_its_attempt():
    assert durations(2.0) == [2]


def test_each_run_of_a_packet_has_its_own():
    assert durations(1.0, 3.0, 4.0) == [1, 3, 4]


@pytest.mark.parametrize("took", [None, 60.0])
def test_without_one_or_with_more_than_there_was_it_is_the_time_since_the_claim(took):
    assert durations(took) == [10]


def test_a_tenant_used_what_its_runs_took():
    durations(1.0, 3.0, 4.0)
    (used,) = get_usage("acme", by="total")
    assert (used.runs, round(used.run_seconds)) == (3, 8)
