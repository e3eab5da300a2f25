"""Each pool that a worker may have runs jobs, interrupts them and gives connections back; others are refused."""

import celery.concurrency.gevent
import celery.concurrency.thread
import pytest
from celery.concurrency import get_implementation
from celery.concurrency.base import BasePool
from celery.exceptions import TimeLimitExceeded

from cgk_tasks import cancel_run, send_job
from cgk_tasks.celery_tasks.pools import POOLS, refuse_other_pools
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import tenant_context
from tests.support import limited_tasks
from tests.support.jobs import Behave, Slow
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in POOLS])
def pool(request, start_worker):
    """A worker with two threads or processes, or none; its queue's name."""
    queue = f"pool-{request.param}"
    worker = start_worker(
        ["tests.support.jobs", "tests.support.limited_tasks"], pool=request.param, CGK_DEFAULT_QUEUE=queue
    )
    yield queue
    worker.stop()


def send(pool, action, argument=""):
    return send_job(Behave(tenant_id="acme", action=action, argument=argument), queue=pool).id


def test_a_job_writes_and_returns(pool):
    run = send(pool, "echo", "back")
    written = send(pool, "note", "written")
    assert wait_closed(run).result == "back"
    assert wait_closed(written).state == "completed"


def test_a_job_that_fails_is_tried_again(pool):
    assert wait_closed(send(pool, "fail_then_succeed", "2")).result == 3


def test_a_run_that_is_cancelled_is_interrupted(pool, tmp_path):
    run = send(pool, "wait_for_file", str(tmp_path / "never"))
    wait_until((tmp_path / "never.started").exists, 20, "it runs")
    cancel_run(run)
    assert wait_closed(run, 20).state == "cancelled"


def test_a_job_that_takes_too_long_is_interrupted(pool):
    run = send_job(Slow(tenant_id="acme", seconds=30), queue=pool).id
    assert wait_closed(run, 20).error_code == "TIMEOUT"


def test_a_task_may_clean_up_until_its_hard_limit(pool):
    with tenant_context("acme"):
        cleaned, ended = (
            limited_tasks.cleans_up.apply_async((seconds,), time_limit=1.5, queue=pool) for seconds in (0.2, 20)
        )
        assert cleaned.get(timeout=20) == "JobTimeoutError"
        with pytest.raises(TimeLimitExceeded):
            ended.get(timeout=20)


def test_connections_are_given_back_whatever_jobs_do(pool):
    runs = [send(pool, ("echo", "fail_permanently", "write_and_fail", "not_json")[number % 4]) for number in range(60)]
    for run in runs:
        wait_closed(run, 60)
    # Of this process, of the worker, and of two jobs at a time, which may have one for themselves.
    assert open_connections() <= 15


def open_connections():
    with autocommit() as connection:
        statement = "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database()"
        return fetch(connection, statement)[0]["number"]


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_that_works_is_taken(name):
    refuse_other_pools(get_implementation(name))


def test_a_pool_of_an_applications_own_that_extends_one_is_taken():
    refuse_other_pools(type("TaskPool", (celery.concurrency.thread.TaskPool,), {"__module__": "shop.pools"}))


@pytest.mark.parametrize(
    ("pool", "name"),
    [
        (celery.concurrency.gevent.TaskPool, "gevent"),
        (type("TaskPool", (BasePool,), {"__module__": "celery.concurrency.eventlet"}), "eventlet"),
        (type("TaskPool", (BasePool,), {"__module__": "shop.pools"}), "pools"),
    ],
)
def test_another_pool_is_refused_with_the_names_of_those_that_work(pool, name):
    with pytest.raises(ConfigurationError, match=f"the pool {name}") as refused:
        refuse_other_pools(pool)
    assert all(f"-P {works}" in str(refused.value) for works in POOLS)
