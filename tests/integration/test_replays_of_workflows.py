"""Workflows that begin again, with a real worker: as a new run, and from a step of an earlier one."""

import pytest

from cgk_tasks import get_run, replay_run, send_job, signal_run
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.integration.stay_jobs import Count, Counts, Stay
from tests.support.waiting import wait_closed


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.stay_jobs"])


def rows_of(run_id):
    """What the run wrote, in order."""
    statement = "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s ORDER BY age(xmin) DESC"
    with autocommit() as connection:
        return [row["note"] for row in fetch(connection, statement, {"id": run_id})]


def all_of(run_id):
    """The run and those that it continued as."""
    runs = [wait_closed(run_id)]
    while isinstance(runs[-1].result, dict):
        runs.append(wait_closed(runs[-1].result["continuedAs"]))
    return runs


def test_a_workflow_continues_as_a_new_run_with_its_mail(worker):
    run_id = send_job(Count(tenant_id="acme"), delay=0.2).id
    signal_run(run_id, "stop", 7)
    runs = all_of(run_id)
    assert ([run.payload["number"] for run in runs], runs[-1].result) == ([0, 1, 2, 3], 7)
    assert [rows_of(run.id) for run in runs] == [["0"], ["1"], ["2"], ["3"]]


@pytest.mark.slow
def test_a_workflow_continues_a_thousand_times(worker):
    run_id = send_job(Count(tenant_id="acme", until=1000), delay=0.2).id
    signal_run(run_id, "stop", 7)
    runs = all_of(run_id)
    assert (len(runs), runs[-1].result) == (1001, 7)


def test_a_child_run_does_not_continue_as_another_one(worker):
    run = wait_closed(run_id := send_job(Counts(tenant_id="acme")).id)
    (child,) = store.listing(parent_id=run_id)
    assert (run.error_code, get_run(child.id).error_code) == ("CANNOT_CONTINUE_AS_NEW", "CANNOT_CONTINUE_AS_NEW")


def test_a_replay_from_a_step_has_what_was_done_before_it(worker):
    first = wait_closed(send_job(Stay(tenant_id="acme", bookings=3)).id)
    again = replay_run(first.id, from_step="book-1")
    run = wait_closed(again.id)
    assert (run.replay_of, run.error_code, rows_of(again.id)) == (
        first.id, "NO_ROOM", ["book 1", "book 2", "cancel 2", "cancel 1", "cancel 0"]
    )  # fmt: skip


def test_what_undoes_a_run_goes_on_where_it_failed(worker):
    first = wait_closed(send_job(Stay(tenant_id="acme", how="broken")).id)
    again = wait_closed(replay_run(first.id, from_step="broken").id)
    assert (first.error_code, again.error_code, rows_of(again.id)) == ("COMPENSATION_FAILED", "COMPENSATION_FAILED", [])


def test_a_step_that_was_not_done_is_refused_and_no_run_is_made(worker):
    first = wait_closed(send_job(Stay(tenant_id="acme", bookings=1)).id)
    with pytest.raises(InvalidOptionError, match="It has book-0, cancel-0"):
        replay_run(first.id, from_step="book-7")
    assert not [run for run in store.listing(tenant_id="acme", limit=500) if run.replay_of == first.id]
