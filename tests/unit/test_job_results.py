"""What a job returns instead of raising, and the waits between its attempts."""

import pytest

from cgk_tasks import JobFailure, JobResult, RetryConfig, calculate_retry_delay, create_job_id, define_job
from cgk_tasks.errors import PermanentError, TransientError
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.middleware import with_error_classification
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.testing import LocalJobs, run_job


class Told(TenantEvent, event="test.told"):
    """Its job returns what the test says."""


def told(value):
    return run_job(lambda ctx: value, Told(tenant_id="acme"))


def test_the_data_of_a_success_is_the_result():
    assert told(JobResult(True, {"sent": 3})) == {"sent": 3}
    assert told(JobResult(True)) is None


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (JobFailure("no", "GONE", retryable=False), PermanentError),
        (JobFailure("no", "GONE", retryable=True), TransientError),
        (JobFailure("no", "INVALID_INPUT"), PermanentError),
        (JobFailure("no", "INVALID_INPUT", retryable=True), TransientError),
        (JobFailure("no", "SERVICE_UNAVAILABLE"), TransientError),
        (JobFailure("no"), TransientError),
        (None, TransientError),
    ],
    ids=str,
)
def test_an_error_is_what_the_job_would_have_raised(failure, error):
    with pytest.raises(error) as raised:
        told(JobResult(False, error=failure))
    assert raised.value.code == (failure.code if failure else "JOB_FAILED")
    assert str(raised.value) == (failure.message if failure else str(raised.value))


def test_a_coroutine_may_return_one():
    async def job(ctx):
        return JobResult(True, "async")

    assert run_job(job, Told(tenant_id="acme")) == "async"


def test_middleware_sees_the_error_and_not_the_object():
    seen = []

    def note(ctx, call_next):
        try:
            return call_next()
        except Exception as exc:
            seen.append(type(exc))
            raise

    @define_job("told-around", event=Told, middleware=[note, with_error_classification])
    def job(ctx):
        return JobResult(False, error=JobFailure("no", retryable=False))

    try:
        with pytest.raises(PermanentError):
            run_job("told-around", Told(tenant_id="acme"))
    finally:
        remove_job("told-around")
    assert seen == [PermanentError]


def test_a_failure_that_is_not_retryable_uses_one_attempt_and_another_one_all():
    @define_job("told-retry", event=Told, retry=RetryConfig(max_attempts=3, initial_delay=0, jitter=False))
    def job(ctx):
        if ctx.attempt < 2:
            return JobResult(False, error=JobFailure("again"))
        return JobResult(False, error=JobFailure("never", retryable=False))

    try:
        with LocalJobs() as jobs:
            jobs.send(Told(tenant_id="acme"))
            (run,) = jobs.wait_idle()
    finally:
        remove_job("told-retry")
    assert (run.state, run.attempt, [error["code"] for error in run.errors]) == ("failed", 2, ["JOB_FAILED"] * 2)


def test_success_and_an_error_contradict_each_other():
    with pytest.raises(ValueError, match="not both"):
        JobResult(True, error=JobFailure("no"))


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 60), (50, 60)])
def test_a_delay_is_what_a_worker_waits(attempt, seconds):
    assert calculate_retry_delay(attempt, RetryConfig(initial_delay=10, jitter=False)) == seconds


def test_a_delay_with_jitter_lies_in_the_upper_half():
    assert {0.5 <= calculate_retry_delay(1) <= 1.0 for _ in range(100)} == {True}


def test_there_is_no_delay_before_a_failure():
    with pytest.raises(ValueError, match="at least 1 failure"):
        calculate_retry_delay(0)


def test_ids_are_new_sort_by_time_and_are_run_ids():
    ids = [create_job_id() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert run_id_of(ids[0]) == ids[0]
