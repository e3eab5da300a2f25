"""Steps in plain jobs, with a real worker: what one attempt has written, the next one does not write again."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.integration.stay_jobs import Chore
from tests.support.waiting import wait_closed


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.stay_jobs"], CGK_MAX_DEATHS="9")


def rows_of(run_id):
    statement = "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s"
    with autocommit() as connection:
        return sorted(row["note"] for row in fetch(connection, statement, {"id": run_id}))


def does(tmp_path, how=""):
    return wait_closed(send_job(Chore(tenant_id="acme", notes=str(tmp_path / "notes"), how=how)).id)


def test_what_a_step_wrote_stays_and_what_the_job_wrote_goes_with_its_attempt(worker, tmp_path):
    run = does(tmp_path)
    assert (run.state, run.result, rows_of(run.id)) == ("completed", 2, ["attempt 2", "one", "two"])


def test_a_job_whose_process_died_goes_on_after_the_steps_that_are_done(worker, tmp_path):
    run = does(tmp_path, "die")
    assert (run.state, rows_of(run.id)) == ("completed", ["attempt 1", "one", "two"])


def test_a_job_that_fails_for_good_undoes_its_steps(worker, tmp_path):
    run = does(tmp_path, "fail")
    assert (run.state, run.error_code, run.error["compensated"], rows_of(run.id)) == (
        "failed", "OVER", ["undo"], ["one", "undone"]
    )  # fmt: skip
