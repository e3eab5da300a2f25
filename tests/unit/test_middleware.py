"""Middleware: how it composes, and what each one does around a job."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
import structlog
from celery.exceptions import Ignore, Reject, Retry
from sqlalchemy import create_engine

from cgk_tasks import embedded
from cgk_tasks.config import Settings, use_settings
from cgk_tasks.errors import (
    ConfigurationError,
    JobTimeoutError,
    PermanentError,
    RetryLater,
    RunCancelledError,
    TenantContextError,
    TenantMissingError,
    TransientError,
)
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.idempotency import MemoryStorage
from cgk_tasks.jobs.middleware import (
    compose_middleware,
    with_error_classification,
    with_idempotency,
    with_logging,
    with_rate_limit,
    with_tenant_context,
    with_timeout,
    with_timing,
)
from cgk_tasks.jobs.rate_limit import create_rate_limiter
from cgk_tasks.tenancy.context import current_tenant, find_current_tenant, tenant_context
from cgk_tasks.tenancy.database import TenantSession
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.worker.handler import create_job_handler

ACME = Tenant("acme", "active", "search_path", "tenant_acme")
GLOBEX = Tenant("globex", "active", "search_path", "tenant_globex")


def context(tenant=ACME, payload=None, **fields):
    return JobContext(job_id="charge", run_id="run-1", event="order.created", tenant=tenant, payload=payload, **fields)


def raising(error):
    def call():
        raise error

    return call


def wait_for_ever():
    while True:
        threading.Event().wait(0.005)


# Composition


def traced(name, trace):
    def middleware(ctx, call_next):
        trace.append(f"{name} begins")
        result = call_next()
        trace.append(f"{name} ends")
        return result

    return middleware


def test_the_first_middleware_is_the_outermost():
    trace = []
    composed = compose_middleware(traced("a", trace), traced("b", trace))
    composed(context(), lambda: trace.append("job"))
    assert trace == ["a begins", "b begins", "job", "b ends", "a ends"]


def test_without_middleware_the_job_just_runs():
    assert compose_middleware()(context(), lambda: 7) == 7


def test_a_middleware_may_change_the_result():
    double = lambda ctx, call_next: call_next() * 2  # noqa: E731
    assert compose_middleware(double, double)(context(), lambda: 3) == 12


def test_a_middleware_may_refuse_the_run():
    ran = []
    with pytest.raises(PermanentError):
        compose_middleware(lambda ctx, call_next: raising(PermanentError("no"))())(context(), lambda: ran.append(1))
    assert ran == []


def test_composed_middleware_is_middleware_again():
    trace = []
    inner = compose_middleware(traced("b", trace), traced("c", trace))
    compose_middleware(traced("a", trace), inner)(context(), lambda: None)
    assert trace[:3] == ["a begins", "b begins", "c begins"]


def test_a_composed_middleware_runs_many_times_at_once_without_mixing_calls():
    together = threading.Barrier(4, timeout=10)

    def meet(ctx, call_next):
        together.wait()
        return ctx.run_id, call_next()

    composed = compose_middleware(meet, meet)

    def run(number):
        ctx = context()
        ctx.run_id = number
        return composed(ctx, lambda: number)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, range(4))) == [(n, (n, n)) for n in range(4)]


def test_a_composed_middleware_may_run_inside_itself():
    composed = compose_middleware(lambda ctx, call_next: call_next() + 1)
    assert composed(context(), lambda: composed(context(), lambda: 0)) == 2


def test_calling_call_next_twice_is_an_error_that_names_the_middleware():
    def twice(ctx, call_next):
        call_next()
        return call_next()

    ran = []
    with pytest.raises(RuntimeError, match="twice called call_next\\(\\) twice"):
        compose_middleware(twice, traced("inner", []))(context(), lambda: ran.append(1))
    assert ran == [1]


def test_an_async_middleware_is_refused():
    async def wrong(ctx, call_next):
        return call_next()

    with pytest.raises(ConfigurationError, match="wrong is no middleware"):
        compose_middleware(wrong)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ConfigurationError, match="'with_logging' is no middleware"):
        compose_middleware("with_logging")


# Logging


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_logging_tells_the_start_and_the_end_of_a_job(lines):
    assert with_logging(context(attempt=2), lambda: 7) == 7
    assert [line["event"] for line in lines] == ["job_started", "job_completed"]


def test_log_lines_name_job_run_and_attempt(lines):
    with_logging(context(attempt=2), lambda: 7)
    assert all((line["job"], line["run"], line["attempt"]) == ("charge", "run-1", 2) for line in lines)


def test_logging_tells_the_seconds(lines):
    with_logging(context(), lambda: 7)
    assert 0 <= lines[-1]["seconds"] < 5


def test_logging_tells_a_failure_with_type_and_code_and_lets_it_pass(lines):
    with pytest.raises(TimeoutError):
        with_logging(context(), raising(TimeoutError("slow")))
    line = lines[-1]
    assert (line["event"], line["log_level"], line["error"], line["code"]) == (
        "job_failed", "error", "TimeoutError", "TIMEOUT",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("steering", "line"),
    [
        (RetryLater(5), "job_postponed"),
        (Retry(), "job_postponed"),
        (RunCancelledError("run-1"), "job_stopped"),
        (Ignore(), "job_stopped"),
    ],
)
def test_what_steers_a_run_is_logged_as_no_failure(lines, steering, line):
    with pytest.raises(type(steering)):
        with_logging(context(), raising(steering))
    assert lines[-1]["event"] == line
    assert lines[-1]["log_level"] == "info"


def test_logging_shows_neither_payload_nor_result_nor_the_text_of_an_error(lines):
    with_logging(context(payload={"card": "secret"}), lambda: "secret")
    with pytest.raises(ValueError):
        with_logging(context(payload={"card": "secret"}), raising(ValueError("secret")))
    assert "secret" not in repr(lines)


# Timing


def test_timing_leaves_the_seconds_in_the_context():
    ctx = context()
    with_timing()(ctx, lambda: threading.Event().wait(0.02))
    assert 0.02 <= ctx.extra["seconds"] < 5


def test_timing_calls_record_also_when_the_job_fails():
    seen = []
    ctx = context()
    with pytest.raises(ValueError):
        with_timing(record=lambda ctx, seconds: seen.append((ctx, seconds)))(ctx, raising(ValueError()))
    assert seen == [(ctx, ctx.extra["seconds"])]


def test_a_record_that_fails_does_not_fail_the_job(lines):
    assert with_timing(record=lambda ctx, seconds: 1 / 0)(context(), lambda: 7) == 7
    assert lines[0]["event"] == "timing_not_recorded"


# Timeout


def test_a_job_over_its_timeout_is_interrupted():
    with pytest.raises(JobTimeoutError):
        with_timeout(0.05)(context(), wait_for_ever)


def test_a_timeout_works_in_threads_too():
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(with_timeout(timedelta(milliseconds=50)), context(), wait_for_ever)
        with pytest.raises(JobTimeoutError):
            ended.result(10)


def test_a_job_within_its_timeout_returns_its_result():
    assert with_timeout(10)(context(), lambda: 7) == 7


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", None])
def test_a_timeout_must_be_a_positive_time(seconds):
    with pytest.raises(ConfigurationError, match="with_timeout"):
        with_timeout(seconds)


# Error classification


def http_error(status, headers=None):
    request = httpx.Request("GET", "https://example.org")
    response = httpx.Response(status, headers=headers, request=request)
    return httpx.HTTPStatusError("refused", request=request, response=response)


def test_a_foreign_permanent_error_becomes_a_permanent_error_with_its_code():
    with pytest.raises(PermanentError, match="HTTPStatusError: refused") as caught:
        with_error_classification(context(), raising(http_error(404)))
    assert caught.value.code == "RECORD_NOT_FOUND"


def test_a_foreign_transient_error_becomes_a_transient_error_with_code_and_retry_after():
    with pytest.raises(TransientError) as caught:
        with_error_classification(context(), raising(http_error(429, {"Retry-After": "17"})))
    assert (caught.value.code, caught.value.retry_after) == ("RATE_LIMITED", 17)


def test_the_classified_error_names_its_cause():
    error = TimeoutError("slow")
    with pytest.raises(TransientError) as caught:
        with_error_classification(context(), raising(error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        KeyError("unknown"),
        PermanentError("no", "MY_CODE"),
        TransientError("later"),
        RetryLater(5),
        JobTimeoutError(5),
        RunCancelledError("run-1"),
        TenantMissingError("it"),
        Retry(),
        Ignore(),
        Reject(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as caught:
        with_error_classification(context(), raising(error))
    assert caught.value is error


# Tenant context


def test_the_tenant_context_is_that_of_the_run_and_ends_with_it():
    assert with_tenant_context(context(), current_tenant) is ACME
    assert find_current_tenant() is None


def test_a_run_without_a_tenant_does_not_run():
    ran = []
    with pytest.raises(TenantMissingError, match="Run run-1 of job 'charge'"):
        with_tenant_context(context(tenant=None), lambda: ran.append(1))
    assert ran == []


def test_a_run_does_not_run_inside_the_context_of_another_tenant():
    ran = []
    with tenant_context(GLOBEX), pytest.raises(TenantContextError):
        with_tenant_context(context(), lambda: ran.append(1))
    assert ran == []


# Idempotency


class Job:
    """A job that counts its runs."""

    def __init__(self, result=None, errors=()):
        self.runs, self.result, self.errors = 0, result, list(errors)

    def __call__(self):
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.result


def once(storage, key="o-1", **options):
    return with_idempotency(lambda ctx: key, storage, **options)


def test_a_second_run_with_the_same_key_returns_the_kept_result_without_running():
    job, once_only = Job({"total": "9.99"}), once(MemoryStorage())
    assert once_only(context(), job) == once_only(context(), job) == {"total": "9.99"}
    assert job.runs == 1


def test_a_result_of_none_is_kept_as_well():
    job, once_only = Job(None), once(MemoryStorage())
    assert once_only(context(), job) is once_only(context(), job) is None
    assert job.runs == 1


def test_a_failed_run_keeps_nothing():
    job, once_only = Job(7, errors=[ValueError()]), once(MemoryStorage())
    with pytest.raises(ValueError):
        once_only(context(), job)
    assert once_only(context(), job) == 7
    assert job.runs == 2


@pytest.mark.parametrize(
    "other",
    [context(tenant=GLOBEX), JobContext("refund", "run-2", "order.created", ACME, None)],
    ids=["tenant", "job"],
)
def test_the_same_key_of_another_tenant_or_job_is_another_key(other):
    job, once_only = Job(7), once(MemoryStorage())
    once_only(context(), job)
    once_only(other, job)
    assert job.runs == 2


def test_a_run_without_a_key_always_runs():
    job, always = Job(7), once(MemoryStorage(), key=None)
    always(context(), job)
    always(context(), job)
    assert job.runs == 2


@pytest.mark.parametrize("key", ["", 7])
def test_a_key_that_is_no_text_fails_the_run_before_it_runs(key):
    job = Job(7)
    with pytest.raises(PermanentError, match="get_key of job 'charge'"):
        once(MemoryStorage(), key=key)(context(), job)
    assert job.runs == 0


def test_a_result_is_forgotten_when_its_time_is_over():
    now = 0.0
    job = Job(7)
    once_only = once(MemoryStorage(lambda: now), seconds=timedelta(minutes=1))
    once_only(context(), job)
    now = 61.0
    once_only(context(), job)
    assert job.runs == 2


class BrokenStorage:
    def get(self, name):
        return None

    def set(self, name, value, *, seconds):
        raise ConnectionError("away")


def test_a_job_that_is_done_does_not_fail_because_its_result_cannot_be_kept(lines):
    assert once(BrokenStorage())(context(), Job(7)) == 7
    assert lines[0]["event"] == "idempotent_result_not_kept"


@pytest.fixture(scope="module")
def redis_url():
    with embedded.temporary(postgres=False) as services:
        yield services.broker_url


@pytest.fixture
def cache_in_redis(redis_url):
    use_settings(Settings(_env_file=None, cache_url=redis_url))
    yield
    use_settings(None)


def test_by_default_results_are_kept_in_the_tenant_cache(cache_in_redis):
    job, once_only = Job({"total": "9.99"}), once(None)
    with tenant_context(ACME):
        assert once_only(context(), job) == once_only(context(), job) == {"total": "9.99"}
    assert job.runs == 1


def test_the_default_storage_refuses_to_work_outside_of_a_tenant_context(cache_in_redis):
    job = Job(7)
    with pytest.raises(TenantMissingError):
        once(None)(context(), job)
    assert job.runs == 0


@pytest.fixture
def session(monkeypatch):
    """A tenant's session whose transactions begin and end without a database."""
    with TenantSession(ACME, create_engine("postgresql+psycopg://")) as session:
        session.begin()
        yield session


def test_a_result_is_kept_only_once_what_the_job_wrote_is_committed(session):
    storage, job = MemoryStorage(), Job(7)
    once_only = once(storage)
    once_only(context(_session=session), job)
    once_only(context(), Job(8))
    assert storage.get("acme:result:charge:o-1") == "8"
    session.commit()
    assert storage.get("acme:result:charge:o-1") == "7"


def test_a_result_is_not_kept_when_what_the_job_wrote_is_rolled_back(session):
    storage = MemoryStorage()
    once(storage)(context(_session=session), Job(7))
    session.rollback()
    session.close()
    assert storage.get("acme:result:charge:o-1") is None


def test_idempotency_without_a_key_function_is_refused():
    with pytest.raises(ConfigurationError, match="needs a function"):
        with_idempotency("order_id")


def test_idempotency_used_without_its_options_is_refused():
    with pytest.raises(ConfigurationError, match="needs a function"):
        compose_middleware(with_idempotency)(context(), lambda: 7)


# Rate limit


def test_a_run_over_the_limit_is_postponed_and_does_not_run():
    job = Job(7)
    limited = with_rate_limit(create_rate_limiter(interval=60, max_per_interval=1, name="stripe"))
    limited(context(), job)
    with pytest.raises(RetryLater, match="rate limit 'stripe' of tenant acme") as caught:
        limited(context(), job)
    assert 59 < caught.value.delay_seconds <= 60
    assert job.runs == 1


def test_a_job_gives_its_place_back_also_when_it_fails():
    limiter = create_rate_limiter(max_concurrent=1)
    with pytest.raises(ValueError):
        with_rate_limit(limiter)(context(), raising(ValueError()))
    assert limiter.acquire("acme").granted


def test_a_job_holds_its_place_while_it_runs():
    limiter = create_rate_limiter(max_concurrent=1)
    assert not with_rate_limit(limiter)(context(), lambda: limiter.acquire("acme").granted)


# The whole handler


def test_a_created_handler_runs_in_the_context_of_its_tenant():
    assert create_job_handler(lambda ctx: current_tenant())(context()) is ACME


def test_a_created_handler_runs_async_functions_to_their_end():
    async def job(ctx):
        await asyncio.sleep(0)
        return current_tenant().id

    assert create_job_handler(job)(context()) == "acme"


def test_a_created_handler_logs_and_times(lines):
    ctx = context()
    create_job_handler(lambda ctx: 7)(ctx)
    assert [line["event"] for line in lines] == ["job_started", "job_completed"]
    assert ctx.extra["seconds"] >= 0


def test_a_created_handler_classifies_errors():
    with pytest.raises(TransientError):
        create_job_handler(lambda ctx: raising(TimeoutError())())(context())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_created_handler_keeps_its_timeout(is_async):
    async def sleep_for_ever(ctx):
        await asyncio.sleep(60)

    handler = sleep_for_ever if is_async else lambda ctx: wait_for_ever()
    with pytest.raises(JobTimeoutError):
        create_job_handler(handler, timeout=0.05)(context())


def test_a_created_handler_runs_its_middleware_inside_of_the_tenant_context():
    seen = []

    def look(ctx, call_next):
        seen.append(current_tenant())
        return call_next()

    create_job_handler(lambda ctx: 7, middleware=[look])(context())
    assert seen == [ACME]


def test_a_created_handler_opens_no_tenant_context_if_told_so():
    assert create_job_handler(lambda ctx: find_current_tenant(), skip_tenant_context=True)(context()) is None


def test_a_created_handler_can_run_many_times_at_once():
    together = threading.Barrier(4, timeout=10)

    def job(ctx):
        together.wait()
        return current_tenant().id

    handler = create_job_handler(job)
    with ThreadPoolExecutor(4) as threads:
        tenants = [ACME, GLOBEX, ACME, GLOBEX]
        assert list(threads.map(lambda tenant: handler(context(tenant)), tenants)) == [one.id for one in tenants]
