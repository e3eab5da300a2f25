"""Workflows that undo what they have done, with real workers: the last first, once each, whoever dies meanwhile."""

import pytest

from cgk_tasks import cancel_run, get_run, send_job
from cgk_tasks.runs import steps, store
from cgk_tasks.runs.undo import COMPENSATES
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.recovery import reclaim
from cgk_tasks.worker.steps import fence_of
from tests.integration.stay_jobs import Stay, StubbornStay, Tour
from tests.integration.workflow_jobs import noted
from tests.support.claims import claim_here
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.stay_jobs"], CGK_MAX_DEATHS="9")


def stays(**wishes):
    return send_job(Stay(tenant_id="acme", **wishes)).id


def waits(run_id):
    wait_until(lambda: get_run(run_id).state == "scheduled")


def rows_of(run_id):
    """What the run wrote, in order."""
    statement = "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s ORDER BY age(xmin) DESC"
    with autocommit() as connection:
        return [row["note"] for row in fetch(connection, statement, {"id": run_id})]


UNDONE = ["book 0", "book 1", "cancel 1", "cancel 0"]


def test_a_failure_for_good_undoes_what_was_done(worker):
    run = wait_closed(run_id := stays())
    assert (run.state, run.error_code, run.error["message"], rows_of(run_id)) == (
        "failed", "NO_ROOM", "no room", UNDONE
    )  # fmt: skip
    assert run.error["compensated"] == ["cancel-1", "cancel-0"]


def test_a_workflow_whose_process_its_time_limit_killed_is_undone(worker):
    run = wait_closed(run_id := send_job(StubbornStay(tenant_id="acme")).id, 40)
    assert (run.state, rows_of(run_id)) == ("failed", ["book 0", "cancel 0"]), run.errors
    assert run.error["compensated"] == ["cancel-0"]


def test_a_cancel_undoes_what_a_waiting_workflow_has_done(worker):
    waits(run_id := stays(how="wait"))
    cancel_run(run_id)
    run = wait_closed(run_id)
    assert (run.state, run.error["compensated"], rows_of(run_id)) == ("cancelled", ["cancel-1", "cancel-0"], UNDONE)


def test_a_cancel_undoes_what_a_running_workflow_has_done(worker, tmp_path):
    run_id = stays(how="run", notes=str(tmp_path / "notes"))
    wait_until(lambda: noted(str(tmp_path / "notes")))
    cancel_run(run_id)
    run = wait_closed(run_id)
    assert (run.state, run.error["compensated"], rows_of(run_id)) == ("cancelled", ["cancel-1", "cancel-0"], UNDONE)


def test_a_second_cancel_changes_nothing(worker):
    waits(run_id := stays(how="wait", bookings=6))
    cancel_run(run_id)
    if get_run(run_id).state == "pending":
        cancel_run(run_id)
    assert (wait_closed(run_id).state, len(rows_of(run_id))) == ("cancelled", 12)


def test_a_compensation_that_fails_ends_the_run_with_a_code_of_its_own(worker):
    run = wait_closed(run_id := stays(how="broken"))
    assert (run.state, run.error_code, run.error["compensated"], run.error["cause"]["code"]) == (
        "failed", "COMPENSATION_FAILED", [], "NO_ROOM"
    )  # fmt: skip
    assert rows_of(run_id) == ["book 0", "book 1"]


def test_children_are_undone_with_their_parent(worker, tmp_path):
    run_id = send_job(Tour(tenant_id="acme", notes=str(tmp_path))).id
    wait_until(lambda: [one.state for one in store.listing(parent_id=run_id)] == ["scheduled", "scheduled"])
    cancel_run(run_id)
    assert (wait_closed(run_id).state, rows_of(run_id)) == ("cancelled", ["end"])
    children = [wait_closed(one.id) for one in store.listing(parent_id=run_id)]
    assert [(child.state, rows_of(child.id)) for child in children] == [("cancelled", UNDONE)] * 2


def test_a_cancelled_run_whose_process_died_is_undone(database):
    run_id = send_job(Stay(tenant_id="acme"), queue="nobody-listens").id
    run = claim_here(run_id)
    with transaction() as connection:
        steps.keep(connection, fence_of(run), [COMPENSATES])
    cancel_run(run_id)
    reclaim(worker_id(), [run_id], reason="the test")
    found = get_run(run_id)
    assert (found.state, found.cancel_requested_at) == ("pending", None)


@pytest.mark.slow
@pytest.mark.parametrize("statements", range(1, 14))
def test_a_death_after_a_statement_undoes_nothing_twice(worker, tmp_path, statements):
    run = wait_closed(run_id := stays(notes=str(tmp_path / "notes"), dies_after=statements), 60)
    assert (run.state, run.error_code, rows_of(run_id)) == ("failed", "NO_ROOM", UNDONE)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_deaths_at_any_time_undo_nothing_twice(worker, tmp_path):
    runs = {number: stays(notes=str(tmp_path / str(number)), dies_after=-1, bookings=4) for number in range(20)}
    expected = [f"book {number}" for number in range(4)] + [f"cancel {number}" for number in (3, 2, 1, 0)]
    for run_id in runs.values():
        assert (wait_closed(run_id, 240).state, rows_of(run_id)) == ("failed", expected)
