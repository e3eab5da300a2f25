"""Sending to a real worker: waiting for results, asyncio, Celery's own API, telemetry."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

import cgk_tasks
from cgk_tasks import (
    SendItem,
    SendOptions,
    acancel_job,
    aget_job_status,
    aretry_job,
    aschedule_job,
    asend_job,
    asend_jobs,
    atrigger_and_wait,
    get_job_status,
    send_job,
    tenant_cache,
    tenant_context,
    trigger_and_wait,
)
from cgk_tasks.errors import (
    InvalidOptionError,
    PayloadInvalidError,
    RunFailedError,
    UnknownRunError,
    WaitTimeoutError,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.runs import store
from tests.support.jobs import Behave, TwoJobs
from tests.support.tenancy_jobs import ProbeTelemetry
from tests.support.waiting import accepted, wait_closed, wait_until

ORDER = {"tenant_id": "acme", "order_id": "o-1", "total_amount": 59.97}


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    cgk_tasks.app.autodiscover_tasks([])
    from cgk_tasks.celery_app import register_application_events

    register_application_events()
    return start_worker(["tests.support.jobs", "tests.support.tenancy_jobs", "tests.support.echo_jobs"])


def behave(action, argument=""):
    return Behave(tenant_id="acme", action=action, argument=argument)


# Waiting


def test_waiting_for_a_run_gives_its_result():
    result = trigger_and_wait(behave("echo", "hello"))
    assert (result.success, result.data, result.unwrap()) == (True, "hello", "hello")


def test_waiting_for_a_run_that_fails_gives_its_error_and_unwrap_raises_it():
    result = trigger_and_wait(behave("fail_permanently"))
    assert (result.success, result.code, result.message) == (False, "ACCOUNT_NOT_FOUND", "no such account")
    with pytest.raises(RunFailedError, match="no such account"):
        result.unwrap()


def test_waiting_too_short_is_a_result_and_the_run_goes_on(tmp_path):
    release = tmp_path / "release"
    result = trigger_and_wait(behave("wait_for_file", str(release)), timeout=0.1)
    assert (result.success, result.timed_out, result.code) == (False, True, "TIMEOUT")
    with pytest.raises(WaitTimeoutError):
        result.unwrap()
    release.touch()
    assert wait_closed(result.run_id).result == "released"


def test_waiting_for_an_event_with_several_jobs_gives_all_their_results():
    assert trigger_and_wait(TwoJobs(tenant_id="acme")).unwrap() == {"test-first": "first", "test-second": "second"}


def test_waiting_for_no_time_looks_once():
    assert trigger_and_wait(behave("echo"), timeout=0, delay=60).timed_out


def test_a_negative_wait_is_refused_before_anything_is_sent():
    with pytest.raises(InvalidOptionError, match="timeout"):
        trigger_and_wait(behave("echo"), timeout=-1)


# asyncio


def test_every_function_has_an_async_twin_that_does_the_same():
    async def run():
        sent = await asend_job(behave("echo", "1"))
        batch = await asend_jobs([behave("echo", "2"), SendItem(behave("echo", "3"), options=SendOptions(priority=9))])
        later = await aschedule_job(behave("echo"), delay=3600)
        waited = await atrigger_and_wait(behave("echo", "4"))
        cancelled = await acancel_job(later.id)
        replayed = await aretry_job(later.id)
        return sent, batch, waited.unwrap(), cancelled.state, (await aget_job_status(replayed.id)).replay_of == later.id

    sent, batch, waited, cancelled, replay_names_it = asyncio.run(run())
    assert [wait_closed(handle.id).result for handle in (sent, *batch)] == ["1", "2", "3"]
    assert (waited, cancelled, replay_names_it) == ("4", "cancelled", True)


def test_fifty_coroutines_wait_for_their_own_results():
    async def run():
        return await asyncio.gather(*(atrigger_and_wait(behave("echo", str(n)), timeout=30) for n in range(50)))

    assert [result.unwrap() for result in asyncio.run(run())] == [str(n) for n in range(50)]


def test_the_event_loop_goes_on_while_a_coroutine_waits():
    async def run():
        waiting = asyncio.create_task(atrigger_and_wait(behave("sleep", "0.3")))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns, waiting.result().unwrap()

    turns, result = asyncio.run(run())
    assert (turns > 5, result) == (True, "slept")


def test_threads_may_share_the_client():
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda n: trigger_and_wait(behave("echo", str(n)), timeout=30).unwrap(), range(24))
        assert list(results) == [str(n) for n in range(24)]


# Celery's own API


def test_delay_sends_the_event_and_the_result_reads_the_run():
    result = cgk_tasks.tasks.order_created.delay(**ORDER)
    assert result.get(timeout=20) == {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}
    assert (result.status, get_job_status(result.id).state) == ("SUCCESS", "completed")


def test_apply_async_with_a_countdown_makes_a_scheduled_run():
    result = cgk_tasks.tasks.order_created.apply_async(kwargs=ORDER, countdown=3600, priority=8)
    status = get_job_status(result.id)
    assert (status.state, status.priority, result.status) == ("scheduled", 1, "PENDING")  # with Redis 0 is urgent


def test_the_failure_of_a_run_is_raised_by_get():
    result = cgk_tasks.app.send_task("test.behave", kwargs=behave("fail_permanently").to_wire())
    with pytest.raises(Exception, match="no such account"):
        result.get(timeout=20)
    assert result.status == "FAILURE"


@pytest.mark.slow
def test_get_times_out_as_celery_does():
    result = cgk_tasks.tasks.order_created.apply_async(kwargs=ORDER, countdown=3600)
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.05)


def test_a_task_refuses_what_send_job_refuses():
    with pytest.raises(PayloadInvalidError, match="totalAmount"):
        cgk_tasks.tasks.order_created.delay(tenant_id="acme", order_id="o-1")


def test_a_task_takes_its_fields_by_keyword_only():
    with pytest.raises(cgk_tasks.CgkTasksError, match="by keyword"):
        cgk_tasks.tasks.order_created.delay("acme", "o-1")


# Telemetry


def test_telemetry_arrives_and_leaves_no_run():
    handle = accepted(lambda: send_job(ProbeTelemetry(tenant_id="acme", key="arrived")))
    with tenant_context("acme"):
        assert wait_until(lambda: tenant_cache().get("arrived")) == b"acme"
    with pytest.raises(UnknownRunError):
        get_job_status(handle.id)
    assert store.listing(event="test.probeTelemetry") == []


def test_a_batch_may_mix_runs_and_telemetry():
    events: list[TenantEvent] = [ProbeTelemetry(tenant_id="globex", key="mixed"), behave("echo", "mixed")]
    handles = accepted(lambda: cgk_tasks.send_jobs(events))
    assert wait_closed(handles[1].id).result == "mixed"
    with tenant_context("globex"):
        assert wait_until(lambda: tenant_cache().get("mixed"))
