"""Time limits of an application's own tasks are Celery's: soft ones are raised once, hard ones end the process."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from cgk_tasks import get_job_status
from cgk_tasks.errors import InvalidOptionError, JobTimeoutError
from cgk_tasks.runs.models import run_id_of
from tests.support import limited_tasks as tasks
from tests.support.waiting import get

pytestmark = pytest.mark.usefixtures("acme")


def test_a_task_cleans_up_after_its_soft_limit_without_being_interrupted_again():
    assert get(tasks.cleans_up.delay(1.5)) == "JobTimeoutError"


def test_a_soft_limit_that_nobody_catches_fails_the_run_with_celerys_error():
    with pytest.raises(SoftTimeLimitExceeded) as caught:
        get(tasks.takes.apply_async((20,), soft_time_limit=0.3))
    assert isinstance(caught.value, JobTimeoutError)


def test_a_hard_limit_of_the_call_ends_the_run_with_time_limit_exceeded():
    result = tasks.takes.apply_async((20,), time_limit=0.5)
    with pytest.raises(TimeLimitExceeded):
        get(result)
    status = get_job_status(run_id_of(result.id))
    assert (status.error_code, status.attempt, status.deaths) == ("TIMEOUT", 1, 0)


def test_a_hard_limit_of_the_task_ends_the_run_with_time_limit_exceeded():
    with pytest.raises(TimeLimitExceeded):
        get(tasks.ends_at_its_own_limit.delay())


def test_a_clean_up_that_lasts_beyond_the_hard_limit_is_ended():
    with pytest.raises(TimeLimitExceeded):
        get(tasks.cleans_up.apply_async((20,), time_limit=1))


def test_limits_of_a_signature_are_those_of_its_call_and_the_request_tells_them():
    signature = tasks.limits_of_request.s().set(time_limit=30, soft_time_limit=20)
    assert get(signature.delay()) == [30, 20]


def test_the_request_tells_the_limits_of_the_task_where_the_call_says_nothing():
    assert get(tasks.limits_of_its_own.delay()) == [40, 35]
    assert get(tasks.limits_of_its_own.apply_async(soft_time_limit=5)) == [40, 5]


def test_a_task_without_limits_has_none():
    assert get(tasks.limits_of_request.delay()) == [None, None]


def test_the_settings_of_the_application_limit_each_run(start_worker):
    queue = "limited-by-settings"
    start_worker(
        ["tests.support.limited_tasks"], concurrency=1, CGK_DEFAULT_QUEUE=queue, LIMITED_TASKS_SOFT="0.3"
    )  # fmt: skip
    with pytest.raises(SoftTimeLimitExceeded):
        get(tasks.takes.apply_async((20,), queue=queue))
    assert get(tasks.takes.apply_async((0.6,), queue=queue, soft_time_limit=10)) == "done"


@pytest.mark.parametrize("limit", [-1, True, "5", float("nan"), float("inf")])
def test_an_impossible_limit_is_refused_when_it_is_sent(limit):
    with pytest.raises(InvalidOptionError, match="time_limit"):
        tasks.takes.apply_async((1,), time_limit=limit)
