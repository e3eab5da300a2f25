"""A process that dies after any statement of a workflow's legs repeats nothing that is on record, and no effect."""

import pytest

from cgk_tasks import send_job, signal_run
from tests.integration.workflow_jobs import CarefulTrip, noted, rows_of
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(start_worker):
    """Who is to die may do so while it executes another run, which then has died too."""
    return start_worker(["tests.integration.workflow_jobs"], concurrency=1, CGK_MAX_DEATHS="9")


def travel(notes, **wishes):
    """The run at its end, the rows that it wrote, and its payments."""
    run_id = send_job(CarefulTrip(tenant_id="acme", notes=notes, **wishes), delay=0.2).id
    signal_run(run_id, "go")
    run = wait_closed(run_id, 40)
    return run, rows_of(run_id), len(noted(f"{notes}.payments"))


@pytest.mark.parametrize("statements", range(1, 12))
def test_a_death_after_a_statement(worker, tmp_path, statements):
    run, rows, payments = travel(str(tmp_path / "notes"), dies_after=statements)
    assert (run.state, run.result, rows, payments) == ("completed", 1, ["book", "leave"], 1)
    # The last ones may come when the run has ended.
    assert [error["code"] for error in run.errors] == ["WORKER_DIED"] or statements > 8


def test_a_death_in_an_effect_that_happened(worker, tmp_path):
    run, rows, payments = travel(str(tmp_path / "notes"), dies_in_effect=True)
    assert (run.state, run.result, rows, payments) == ("completed", 1, ["book", "leave"], 1)
    assert [error["code"] for error in run.errors] == ["WORKER_DIED"]
