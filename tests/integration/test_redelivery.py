"""A job with redelivery=False never begins a second time because its worker or process was lost."""

import pytest
from celery.exceptions import WorkerLostError

from cgk_tasks import cancel_job, get_job_status, send_job
from cgk_tasks.errors import JobLostError
from cgk_tasks.runs.models import run_id_of
from tests.integration import redelivery_tasks as tasks
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.usefixtures("acme")


def begun(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_task_whose_process_is_killed_fails_with_worker_lost_error_and_ran_once(tmp_path):
    result = tasks.once.delay(str(tmp_path / "charges"))
    with pytest.raises(WorkerLostError) as caught:
        result.get(timeout=20)
    assert isinstance(caught.value, JobLostError)
    status = get_job_status(run_id_of(result.id))
    assert (status.state, status.error_code, status.deaths) == ("failed", "WORKER_LOST", 1)
    assert begun(tmp_path / "charges") == 1


def test_a_job_whose_process_is_killed_fails_whatever_its_retry_policy_says(tmp_path):
    run = send_job(tasks.Charged(tenant_id="acme", path=str(tmp_path / "charges")))
    status = wait_closed(run.id)
    assert (status.state, status.error_code, status.attempt) == ("failed", "WORKER_LOST", 1)
    assert begun(tmp_path / "charges") == 1


def test_a_task_of_that_kind_completes_where_nothing_is_lost(tmp_path):
    assert tasks.once.delay(str(tmp_path / "charges"), deaths=0).get(timeout=20) == "done"


def test_a_retry_that_the_task_asks_for_is_made_and_may_be_lost_as_well(tmp_path):
    result = tasks.once_with_retry.delay(str(tmp_path / "charges"))
    with pytest.raises(WorkerLostError):
        result.get(timeout=20)
    assert begun(tmp_path / "charges") == 1


def test_a_task_that_says_acks_late_false_is_not_repeated(tmp_path):
    with pytest.raises(WorkerLostError):
        tasks.acknowledged_early.delay(str(tmp_path / "charges")).get(timeout=20)
    assert begun(tmp_path / "charges") == 1


def test_a_task_that_says_acks_late_is_repeated(tmp_path):
    assert tasks.acknowledged_late.delay(str(tmp_path / "charges")).get(timeout=20) == "done"
    assert begun(tmp_path / "charges") == 2


def test_a_cancelled_run_of_that_kind_is_cancelled(tmp_path):
    result = tasks.takes_long_once.delay(str(tmp_path / "charges"))
    wait_until(lambda: begun(tmp_path / "charges"), what="the task has begun")
    cancel_job(run_id_of(result.id))
    assert wait_closed(run_id_of(result.id)).state == "cancelled"


@pytest.mark.slow
def test_a_run_of_that_kind_that_a_stop_interrupts_fails(tmp_path, start_worker):
    own = start_worker(
        ["tests.integration.redelivery_tasks"], CGK_DEFAULT_QUEUE="q-stops", CGK_STOP_GRACE_SECONDS="0.1"
    )
    result = tasks.takes_long_once.apply_async((str(tmp_path / "charges"),), queue="q-stops")
    wait_until(lambda: begun(tmp_path / "charges"), what="the task has begun")
    own.stop()
    status = wait_closed(run_id_of(result.id))
    assert (status.state, status.error_code) == ("failed", "WORKER_LOST")
