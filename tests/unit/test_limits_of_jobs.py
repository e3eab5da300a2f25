"""What `define_job(limits=...)` and `define_workflow` refuse, and what `concurrency=` stands for."""

import pytest

from cgk_tasks import AtOnce, Batch, Throttle, define_job, define_workflow
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.registry import find_job, remove_job
from cgk_tasks.jobs.routes import are_limits_declared


class Limited(TenantEvent, event="test.limited"):
    shop_id: str = ""


class Unrecorded(TenantEvent, event="test.limited.unrecorded", durable=False):
    pass


@pytest.fixture
def define():
    """Defines a job with these options, for one test, and returns it."""

    def make(**options):
        define_job("test-limited-job", **{"event": Limited} | options)(lambda _ctx: None)
        return find_job("test-limited-job")

    yield make
    remove_job("test-limited-job")


@pytest.fixture
def walk():
    def make(**options):
        define_workflow("test-limited-walk", event=Limited, **options)(lambda wf: None)
        return find_job("test-limited-walk")

    yield make
    remove_job("test-limited-walk")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limits": [AtOnce(1, key="shop_id")]}, "Use a field as the payload has it: shopId, tenantId."),
        ({"limits": [5]}, "5 is no limit. Use AtOnce, Throttle, RateLimit, Singleton, Debounce or Batch."),
        ({"limits": AtOnce(5)}, "limits must be a list, not AtOnce("),
        ({"limits": [AtOnce(1), AtOnce(2)]}, "two rules of the kind AtOnce"),
        ({"limits": [AtOnce(1)], "concurrency": 2}, "two rules of the kind AtOnce"),
        ({"event": Unrecorded, "limits": [AtOnce(1)]}, "runs of test.limited.unrecorded are not recorded"),
        ({"concurrency": 0}, "must be a whole number from 1, not 0"),
        ({"ttl": 0}, "ttl must be more than 0 seconds, or a timedelta, not 0."),
        ({"ttl": "1h"}, "ttl must be more than 0 seconds, or a timedelta, not '1h'."),
        ({"event": Unrecorded, "ttl": 60}, "runs of test.limited.unrecorded are not recorded"),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_import(define, options, said):
    with pytest.raises(ConfigurationError) as refused:
        define(**options)
    assert said in str(refused.value)


def test_concurrency_is_a_limit_of_runs_at_once(define):
    assert define(concurrency=3, limits=[Throttle(5, every=1)]).limits == (AtOnce(3), Throttle(5, every=1))


def test_a_process_knows_whether_any_of_its_jobs_is_limited(define):
    before = are_limits_declared()
    define(limits=[AtOnce(1)])
    during = are_limits_declared()
    remove_job("test-limited-job")
    assert (during, are_limits_declared()) == (True, before)


def test_a_workflow_has_limits_as_a_job_has(walk):
    assert walk(concurrency=3, limits=[Throttle(5, every=1)]).limits == (AtOnce(3), Throttle(5, every=1))


def test_a_batch_for_a_workflow_is_refused_and_nothing_is_defined(walk):
    with pytest.raises(ConfigurationError, match="'test-limited-walk' cannot have a Batch: a workflow is about one"):
        walk(limits=[Batch(10, max_wait=1)])
    assert find_job("test-limited-walk") is None
