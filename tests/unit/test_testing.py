"""The helpers for an application's own tests, as far as they need no server."""

import asyncio
import os
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from cgk_tasks import (
    JobContext,
    PermanentError,
    RetryConfig,
    RetryLater,
    TransientError,
    current_tenant,
    define_job,
    get_job_client,
    reset_job_client,
    send_job,
    set_job_client,
)
from cgk_tasks.client import JobClient
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import ConfigurationError, JobTimeoutError, PayloadInvalidError, TenantContextError
from cgk_tasks.events import OrderCancelled, OrderCreated
from cgk_tasks.jobs.registry import add_job, jobs_for, remove_job
from cgk_tasks.testing import LocalJobs, run_job

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
ORDER = OrderCreated(tenant_id="acme", order_id="o-1", total_amount=Decimal("59.97"))


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    """No setting, and no folder whose services could be found."""
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    use_settings(None)


@pytest.fixture
def defined():
    """`define_job` for one test, in which the event has no other job: the process may have imported some."""
    others = jobs_for("order.created")
    for job in others:
        remove_job(job.id)
    ids = []

    def define(job_id, handler, event="order.created", **options):
        ids.append(job_id)
        return define_job(job_id, event=event, **options)(handler)

    yield define
    for job_id in ids:
        remove_job(job_id)
    for job in others:
        add_job(job)


class TestRunJob:
    def test_returns_what_the_job_returns(self):
        assert run_job(lambda ctx: ctx.payload.order_id, ORDER) == "o-1"

    def test_the_job_is_told_what_the_test_says(self):
        def told(ctx):
            return [ctx.attempt, ctx.max_attempts, ctx.cursor, ctx.scheduled_for.isoformat()]

        options = {"attempt": 2, "max_attempts": 4, "cursor": 7, "scheduled_for": NINE}
        assert run_job(told, ORDER, **options) == [2, 4, 7, NINE.isoformat()]

    def test_raises_the_very_error_that_the_job_raises(self):
        error = PermanentError("no such account")

        def fail(ctx):
            raise error

        with pytest.raises(PermanentError) as raised:
            run_job(fail, ORDER)
        assert raised.value is error

    @pytest.mark.parametrize("error", [RetryLater(60), TransientError("busy"), ValueError("bug")])
    def test_raises_what_would_be_retried_and_does_not_retry_it(self, error):
        calls = []

        def fail(ctx):
            calls.append(ctx.attempt)
            raise error

        with pytest.raises(type(error)):
            run_job(fail, ORDER)
        assert calls == [1]

    def test_the_job_runs_in_its_tenants_context(self):
        assert run_job(lambda ctx: current_tenant().id, ORDER) == "acme"

    def test_the_job_is_told_which_attempt_it_is(self):
        assert run_job(lambda ctx: [ctx.attempt, ctx.max_attempts], ORDER, attempt=2, max_attempts=7) == [2, 7]

    def test_the_job_goes_on_at_the_given_cursor(self):
        assert run_job(lambda ctx: ctx.cursor, ORDER, cursor="page-7") == "page-7"

    def test_a_registered_job_runs_through_its_middleware_and_with_its_policy(self, defined):
        def doubled(ctx, call_next):
            return call_next() * 2

        job = defined("doubled", lambda ctx: ctx.max_attempts, middleware=[doubled], retry=RetryConfig(4))
        assert run_job(job, ORDER) == 8

    def test_a_job_is_found_by_its_id(self, defined):
        defined("by-id", lambda ctx: ctx.job_id)
        assert run_job("by-id", ORDER) == "by-id"

    def test_an_unknown_job_id_is_refused(self):
        with pytest.raises(ConfigurationError, match="Import the module"):
            run_job("nobody", ORDER)

    def test_a_function_that_is_the_job_of_two_events_runs_as_the_one_of_the_payload(self, defined):
        def both(ctx: JobContext):
            return ctx.job_id

        defined("of-created", both)
        defined("of-cancelled", both, event="order.cancelled")
        assert run_job(both, OrderCancelled(tenant_id="acme", order_id="o-1")) == "of-cancelled"

    def test_a_registered_job_takes_its_payload_as_a_mapping_and_checks_it(self, defined):
        job = defined("checked", lambda ctx: ctx.payload.total_amount)
        with pytest.raises(PayloadInvalidError, match="orderId"):
            run_job(job, {"totalAmount": 5}, tenant="acme")

    def test_the_tenant_of_a_mapping_may_be_given_beside_it(self, defined):
        job = defined("tenant-beside", lambda ctx: ctx.tenant_id)
        assert run_job(job, {"orderId": "o-1", "totalAmount": 5}, tenant="acme") == "acme"

    def test_a_payload_of_another_tenant_is_refused(self):
        with pytest.raises(TenantContextError, match=r"'acme'.*'globex'"):
            run_job(lambda ctx: None, ORDER, tenant="globex")

    def test_an_async_job_is_awaited(self, defined):
        async def later(ctx):
            await asyncio.sleep(0)
            return "later"

        assert run_job(defined("later", later), ORDER) == "later"

    def test_the_jobs_time_limit_holds(self, defined):
        async def forever(ctx):
            await asyncio.sleep(60)

        job = defined("forever", forever, timeout=0.05)
        with pytest.raises(JobTimeoutError):
            run_job(job, ORDER)

    def test_a_result_that_cannot_be_stored_is_refused_as_in_a_worker(self):
        with pytest.raises(PermanentError, match="cannot be stored as JSON"):
            run_job(lambda ctx: object(), ORDER)

    def test_ctx_db_without_a_database_says_what_is_missing(self):
        with pytest.raises(ConfigurationError, match="CGK_DATABASE_URL"):
            run_job(lambda ctx: ctx.db, ORDER)


class TestLocalJobs:
    def test_what_is_sent_runs_in_this_process(self, defined):
        ran = []
        defined("local", lambda ctx: ran.append(ctx.payload))
        with LocalJobs() as jobs:
            send_job(ORDER)
            jobs.wait_idle()
        assert ran == [ORDER]

    def test_remembers_what_was_sent_by_jobs_too_in_order(self, defined):
        follow_up = OrderCancelled(tenant_id="acme", order_id="o-1")
        defined("sends-another", lambda ctx: send_job(follow_up).id)
        with LocalJobs() as jobs:
            send_job(ORDER)
            jobs.wait_idle()
        assert jobs.sent == [ORDER, follow_up]

    def test_a_run_can_be_told_its_attempt_its_cursor_and_its_tick(self, defined):
        defined("told", lambda ctx: [ctx.attempt, ctx.cursor, ctx.scheduled_for.isoformat()])
        with LocalJobs() as jobs:
            jobs.send(ORDER, attempt=3, cursor={"page": 2}, scheduled_for=NINE)
            (run,) = jobs.wait_idle()
        assert run.result == [3, {"page": 2}, NINE.isoformat()]
        assert (run.attempt, run.scheduled_for) == (3, NINE)

    def test_the_jobs_of_an_event_with_several_are_told_the_tick(self, defined):
        for job_id in ("one", "two"):
            defined(job_id, lambda ctx: ctx.scheduled_for.isoformat())
        with LocalJobs() as jobs:
            jobs.send("order.created", {"tenantId": "acme", "orderId": "o", "totalAmount": 1}, scheduled_for=NINE)
            (run,) = jobs.wait_idle()
        assert run.result == {"one": NINE.isoformat(), "two": NINE.isoformat()}

    def test_a_send_that_was_held_back_by_its_key_is_not_counted(self):
        with LocalJobs() as jobs:
            send_job(ORDER, idempotency_key="o-1")
            send_job(ORDER, idempotency_key="o-1")
        assert jobs.sent == [ORDER]

    def test_waits_for_retries(self, defined):
        def second_time(ctx):
            if ctx.attempt == 1:
                raise TransientError("busy")

        defined("second-time", second_time, retry=RetryConfig(2, initial_delay=0.05))
        with LocalJobs() as jobs:
            send_job(ORDER)
            (run,) = jobs.wait_idle()
        assert (run.state, run.attempt) == ("completed", 2), run.errors

    def test_does_not_wait_for_what_is_due_later_than_its_patience(self):
        with LocalJobs() as jobs:
            send_job(ORDER, delay=3600)
            (run,) = jobs.wait_idle(timeout=5)
        assert run.state == "scheduled"

    def test_names_the_runs_that_do_not_end(self, defined):
        begun, may_end = threading.Event(), threading.Event()

        def forever(ctx):
            begun.set()
            may_end.wait(60)

        defined("never-ends", forever)
        with LocalJobs() as jobs:
            run = send_job(ORDER)
            assert begun.wait(20)
            with pytest.raises(TimeoutError, match=f"order.created {run.id} is running"):
                jobs.wait_idle(timeout=0.2)
            may_end.set()

    def test_puts_the_client_from_before_back(self):
        mine = JobClient(LocalProvider())
        before = set_job_client(mine)
        with LocalJobs() as jobs:
            assert get_job_client() is jobs.client
        assert get_job_client() is mine
        assert mine.health_check().healthy
        reset_job_client()
        if before is not None:
            set_job_client(before)
