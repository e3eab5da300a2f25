"""Queues of named jobs, on the real record, with workers inside this process."""

import threading
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

import cgk_tasks
from cgk_tasks import (
    JobFailure,
    JobResult,
    RetryConfig,
    create_job_queue,
    current_tenant,
    embedded_worker,
    get_run,
    process_jobs,
    send_job,
    tenant_context,
)
from cgk_tasks.celery_app import follow_settings
from cgk_tasks.errors import (
    ConfigurationError,
    InvalidOptionError,
    RunStateError,
    TenantContextError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.jobs.registry import all_jobs, remove_job
from cgk_tasks.sql.postgres import autocommit
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module")
def queue(database):
    follow_settings(cgk_tasks.app)
    return create_job_queue("emails")


@pytest.fixture
def handled(queue):
    """Handlers that are forgotten when the test has ended."""
    before = {job.id for job in all_jobs()}
    yield queue
    for job_id in {job.id for job in all_jobs()} - before:
        remove_job(job_id)


def greet(ctx):
    return f"Hello {ctx.payload.data['to']} of {ctx.tenant_id}"


def test_a_job_is_run_by_the_handler_of_its_name(handled):
    with process_jobs(handled, {"greet": greet, "part": lambda ctx: JobResult(True, "bye")}):
        hello = handled.enqueue("greet", {"to": "Ada"}, tenant_id="acme").id
        bye = handled.enqueue("part", tenant_id="globex").id
        wait_closed(hello)
        wait_closed(bye)
    assert (handled.get_job(hello).status, handled.get_job(hello).result) == ("completed", "Hello Ada of acme")
    assert handled.get_job(bye).result == "bye"


def test_it_takes_the_tenant_of_the_context(handled):
    with process_jobs(handled, {"greet": greet}):
        with tenant_context("globex"):
            run = handled.enqueue("greet", {"to": "Ada"}).id
        assert wait_closed(run).result == "Hello Ada of globex"


def test_a_job_fails_as_its_result_says(handled):
    def handler(ctx):
        if ctx.attempt == 1:
            return JobResult(False, error=JobFailure("busy", "SERVICE_UNAVAILABLE"))
        return JobResult(False, error=JobFailure("gone", "NO_SUCH_ADDRESS", retryable=False))

    processor = process_jobs(handled)
    processor.register_job("fail", handler, retry=RetryConfig(max_attempts=5, initial_delay=0.05))
    with processor:
        run = handled.enqueue("fail", tenant_id="acme").id
        wait_closed(run)
    job = handled.get_job(run)
    assert (job.status, job.attempts, job.error_code) == ("failed", 2, "NO_SUCH_ADDRESS")
    assert job.error["message"] == "gone"


def test_the_application_is_told_of_ends_and_of_errors(handled):
    told = []

    def fail_once(ctx):
        if ctx.attempt == 1:
            raise TimeoutError("slow")
        return {"attempt": ctx.attempt}

    processor = process_jobs(
        handled,
        on_complete=lambda job, result: told.append((job.name, job.status, current_tenant().id, result)),
        on_error=lambda job, error: told.append((job.name, job.status, current_tenant().id, str(error))),
    )
    processor.register_job("flaky", fail_once, retry=RetryConfig(initial_delay=0.05))
    processor.register_job("broken", lambda ctx: 1 / 0, retry=RetryConfig(max_attempts=1))
    with processor:
        wait_closed(handled.enqueue("flaky", tenant_id="acme").id)
        wait_closed(handled.enqueue("broken", tenant_id="globex").id)
        wait_until(lambda: len(told) == 3, what="all is told")
    assert told == [
        ("flaky", "retrying", "acme", "slow"),
        ("flaky", "completed", "acme", {"attempt": 2}),
        ("broken", "failed", "globex", "division by zero"),
    ]


def test_what_the_application_does_wrong_when_it_is_told_changes_nothing(handled):
    with process_jobs(handled, {"greet": greet}, on_complete=lambda job, result: 1 / 0):
        first = handled.enqueue("greet", {"to": "Ada"}, tenant_id="acme").id
        second = handled.enqueue("greet", {"to": "Bob"}, tenant_id="acme").id
        assert {wait_closed(first).state, wait_closed(second).state} == {"completed"}


def test_so_many_jobs_run_at_once(handled):
    here = threading.Barrier(3)
    with process_jobs(handled, {"meet": lambda ctx: here.wait(20) >= 0}, max_concurrency=3):
        runs = [handled.enqueue("meet", tenant_id="acme").id for _ in range(3)]
        assert [wait_closed(run).result for run in runs] == [True] * 3


def test_a_job_waits_for_its_time(handled):
    with process_jobs(handled, {"greet": greet}):
        later = handled.enqueue("greet", {"to": "Ada"}, tenant_id="acme", delay=0.3)
        assert handled.get_job(later.id).status == "scheduled"
        assert wait_closed(later.id).state == "completed"


@contextmanager
def ending(worker):
    yield
    worker.stop()


def test_a_job_without_a_handler_here_waits_for_the_worker_that_has_one(handled, start_worker):
    worker = start_worker(["tests.job_queues.queue_jobs"], CGK_DEFAULT_QUEUE=handled.name)
    with ending(worker), process_jobs(handled, {"greet": greet}):
        runs = [handled.enqueue("elsewhere", {"n": n}, tenant_id="acme").id for n in range(4)]
        assert [wait_closed(run).result for run in runs] == [f"elsewhere {n}" for n in range(4)]


def test_jobs_are_listed_by_status_the_newest_first(handled, database):
    queue = create_job_queue("listed")
    first = queue.enqueue("greet", {"to": "Ada"}, tenant_id="acme").id
    later = queue.enqueue("greet", {"to": "Bob"}, tenant_id="globex", delay=3600).id
    send_job(Behave(tenant_id="acme", action="echo"), queue="listed")  # in the same queue, and no named job
    handled.enqueue("greet", tenant_id="acme", delay=3600)
    assert [(job.id, job.name, job.tenant_id) for job in queue.list_jobs()] == [
        (later, "greet", "globex"), (first, "greet", "acme"),
    ]  # fmt: skip
    assert [job.id for job in queue.list_jobs("scheduled")] == [later]
    assert [job.id for job in queue.list_jobs(tenant_id="acme")] == [first]
    assert [job.id for job in queue.list_jobs(limit=1)] == [later]
    assert queue.list_jobs()[0].payload is None


def test_a_tenant_sees_its_own_jobs_alone(queue):
    mine = queue.enqueue("greet", {"to": "Ada"}, tenant_id="acme", delay=3600).id
    theirs = queue.enqueue("greet", {"to": "Bob"}, tenant_id="globex", delay=3600).id
    with tenant_context("acme"):
        assert {job.tenant_id for job in queue.list_jobs()} == {"acme"}
        assert queue.get_job(mine).payload == {"to": "Ada"}
        for look in (queue.get_job, queue.cancel_job, queue.retry_job):
            with pytest.raises(UnknownRunError):
                look(theirs)
        with pytest.raises(TenantContextError):
            queue.list_jobs(tenant_id="globex")
        with pytest.raises(TenantContextError):
            queue.enqueue("greet", tenant_id="globex")
    assert queue.get_job(theirs).status == "scheduled"


def test_jobs_of_other_queues_and_other_runs_are_unknown(queue):
    elsewhere = create_job_queue("elsewhere").enqueue("greet", tenant_id="acme", delay=3600).id
    run = send_job(Behave(tenant_id="acme", action="echo"), queue=queue.name, delay=3600).id
    for unknown in (elsewhere, run, "00000000-0000-7000-8000-000000000000", "no id"):
        with pytest.raises(UnknownRunError):
            queue.get_job(unknown)


def test_a_job_is_cancelled_and_enqueued_again(handled):
    job = handled.enqueue("greet", {"to": "Ada"}, tenant_id="acme", delay=3600).id
    with pytest.raises(RunStateError):
        handled.retry_job(job)
    assert handled.cancel_job(job).status == "cancelled"
    with process_jobs(handled, {"greet": greet}):
        again = handled.retry_job(job).id
        assert wait_closed(again).result == "Hello Ada of acme"
    assert get_run(again).replay_of == job


def test_what_a_job_carries_is_in_sealed_columns_alone(queue):
    job = queue.enqueue(
        "greet", {"to": "in-clear-text"}, tenant_id="acme", metadata={"by": "in-clear-text"}, delay=3600
    )
    with autocommit() as connection:
        (row,) = connection.execute("SELECT r::text FROM cgk.runs r WHERE id = %s", [job.id]).fetchone()
    assert "in-clear-text" not in row


def test_an_unknown_tenant_is_refused(queue):
    with pytest.raises(UnknownTenantError):
        queue.enqueue("greet", tenant_id="nobody")


def test_a_status_or_limit_that_there_is_not_is_refused(queue):
    with pytest.raises(InvalidOptionError, match="status"):
        queue.list_jobs("done")
    with pytest.raises(InvalidOptionError, match="limit"):
        queue.list_jobs(limit=0)


def test_a_handler_must_be_there_before_the_start(handled):
    with pytest.raises(ConfigurationError, match="without any handler"):
        process_jobs(handled).start()
    with (
        process_jobs(handled, {"greet": greet}) as processor,
        pytest.raises(ConfigurationError, match="came after the start"),
    ):
        processor.register_handler("late", greet)


def test_a_name_has_one_handler(handled):
    processor = process_jobs(handled, {"greet": greet})
    with pytest.raises(ConfigurationError, match="used twice"):
        processor.register_handler("greet", lambda ctx: None)


def test_a_process_has_one_worker_inside_whoever_starts_it(handled):
    processor = process_jobs(handled, {"greet": greet})
    with embedded_worker(1), pytest.raises(ConfigurationError, match="has a worker inside already"):
        processor.start()
    assert not processor.is_running


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_interval_is_a_time(queue, seconds):
    with pytest.raises(InvalidOptionError, match="poll_interval"):
        process_jobs(queue, poll_interval=seconds)


def test_the_processor_is_silent_when_it_has_stopped(handled):
    told = []
    with process_jobs(handled, {"greet": greet}, on_complete=lambda job, result: told.append(result)):
        wait_closed(handled.enqueue("greet", {"to": "Ada"}, tenant_id="acme").id)
        wait_until(lambda: told, what="it is told")
    with process_jobs(handled, {"greet": greet}), capture_logs():
        wait_closed(handled.enqueue("greet", {"to": "Bob"}, tenant_id="acme").id)
    assert told == ["Hello Ada of acme"]
