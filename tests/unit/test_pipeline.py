"""The way of a packet's runs through a worker's process, without a server: what becomes of each run."""

import logging
import os
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import structlog

from cgk_tasks import JobContext, RetryLater, SendOptions, define_job
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import PayloadInvalidError, PermanentError, StoreError, UnknownTenantError
from cgk_tasks.events import TenantEvent
from cgk_tasks.events.registry import parse_event_json
from cgk_tasks.jobs.registry import Job, remove_job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runs.store import Claimed
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.models import Tenant, presumed
from cgk_tasks.testing import run_job
from cgk_tasks.worker import pipeline
from cgk_tasks.worker.attempt import run_inline
from cgk_tasks.worker.handler import create_job_handler
from tests.support.waiting import wait_until

ACME = Tenant("acme", "active", "search_path", "tenant_acme")
AT_ONCE = RetryConfig(initial_delay=0, jitter=False)


class Passing(TenantEvent, event="test.passing"):
    label: str = ""


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGK_PACKET_BUDGET_SECONDS", "60")  # however busy the machine is
    use_settings(None)
    yield
    use_settings(None)


@pytest.fixture
def lines(caplog):
    """What the framework logs about runs, each line with the fields that were bound when it was written."""
    caplog.set_level(logging.DEBUG, "cgk_tasks.runs")
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        yield logged


class Recorder:
    """Keeps what it was told, in order: (what, run's id, and what more there is to say)."""

    disk_seconds = 0.0
    has_another_worker = False

    def __init__(self, refuses=None):
        self.told, self.errors, self.refuses, self.reports = [], {}, refuses, []

    def end_of(self, run):
        def end(attempt, outcome):
            if self.refuses is not None:
                raise self.refuses
            self.told.append((outcome.kind, run.id))
            return outcome

        return end

    def close_failed(self, run, job_id, outcome):
        self.told.append(("failed", run.id))
        self.errors[run.id] = job_id, outcome.error_code

    def close_unhandled(self, run, reason, code):
        self.told.append(("unhandled", run.id))

    def close_broken(self, run, exc):
        self.told.append(("broken", run.id))

    def hold_for_another_worker(self, run):
        self.told += [("held", run.id)] * self.has_another_worker
        return self.has_another_worker

    def requeue(self, runs):
        self.told += [("requeued", run.id) for run in runs]

    def fan_out(self, parent, jobs):
        self.told.append(("fanned out", parent.id))
        self.errors[parent.id] = [job.id for job in jobs]

    def save_cursor(self, run, cursor, session):
        self.told.append(("cursor", run.id))

    def keep_log(self, run_log, *, is_last):
        pass


class Hooks:
    def begin(self, attempt):
        pass

    def ended(self, outcome):
        pass

    def leave(self):
        pass


class Task:
    """The task of an event with these handlers, each a job. `breaks`: the runs whose jobs cannot even be looked for."""

    follow = None

    def __init__(self, *handlers, breaks=None):
        self.breaks = breaks or {}
        self._jobs = [
            Job(f"job-{number}", "test.passing", handler, retry=AT_ONCE, timeout=20)
            for number, handler in enumerate(handlers)
        ]

    def is_for(self, run):
        return True

    def jobs(self, run):
        if run.id in self.breaks:
            raise self.breaks[run.id]
        return self._jobs

    def payload(self, run):
        return parse_event_json(run.event, run.payload)

    def hooks(self, run):
        return Hooks()

    def interpret(self, attempt, exc):
        return None


def claimed(run_id="run-1", **fields):
    now = datetime.now(UTC)
    values = {
        "id": run_id, "tenant_id": "acme", "event": "test.passing", "job": None, "queue": "q", "priority": 5,
        "sealed_payload": b'{"tenantId": "acme"}', "max_attempts": None, "attempt": 1, "deaths": 0, "run_at": now,
        "created_at": now, "started_at": now, "parent_id": None, "sealed_canvas": None, "tenant": ACME,
    }  # fmt: skip
    return Claimed(**values | fields)


def echo(ctx):
    return ctx.payload.label


# One run


def test_a_run_whose_job_returns_completes():
    recorder = Recorder()
    assert pipeline.run_one(Task(echo), claimed(), recorder) is None
    assert recorder.told == [("completed", "run-1")]


@pytest.mark.parametrize("error", [RetryLater(1), ValueError("not yet")])
def test_of_a_run_that_goes_on_later_the_reason_is_told(error):
    def fail(ctx):
        raise error

    told = pipeline.run_one(Task(fail), claimed(), Recorder())
    assert (type(told), told.reason) == (pipeline.RunsAgain, error)


def test_a_run_of_an_unknown_tenant_fails_before_its_job_is_looked_for():
    recorder = Recorder()
    error = pipeline.run_one(Task(breaks={"run-1": AssertionError()}), claimed(tenant=None), recorder)
    assert isinstance(error, UnknownTenantError)
    assert recorder.errors == {"run-1": (None, error.code)}


def test_a_run_without_a_job_is_unhandled(lines):
    recorder = Recorder()
    assert pipeline.run_one(Task(), claimed(), recorder) is None
    assert recorder.told == [("unhandled", "run-1")]
    assert [line["event"] for line in lines] == ["run_unhandled"]


def test_a_run_that_another_worker_has_a_job_for_is_held_for_it():
    recorder = Recorder()
    recorder.has_another_worker = True
    assert pipeline.run_one(Task(), claimed(), recorder) is None
    assert recorder.told == [("held", "run-1")]


def test_a_run_of_another_task_goes_back():
    recorder = Recorder()
    task = Task(echo)
    task.is_for = lambda run: run.id != "run-2"
    pipeline.run_each(task, [claimed("run-1"), claimed("run-2"), claimed("run-3")], recorder)
    assert recorder.told == [("completed", "run-1"), ("requeued", "run-2"), ("completed", "run-3")]


def test_a_run_with_several_jobs_becomes_a_run_of_each():
    recorder = Recorder()
    assert pipeline.run_one(Task(echo, echo), claimed(), recorder) is None
    assert (recorder.told, recorder.errors) == ([("fanned out", "run-1")], {"run-1": ["job-0", "job-1"]})


@pytest.mark.parametrize(
    ("damaged", "error"),
    [
        ({"sealed_payload": b'{"tenantId": "acme", "label": 5}'}, PayloadInvalidError),
        ({"sealed_payload": b"{"}, PayloadInvalidError),
        ({"sealed_cursor": b"{"}, ValueError),
        ({"key_id": "k-7"}, StoreError),
    ],
    ids=["payload of another model", "payload that is no JSON", "cursor that is no JSON", "key that is not known"],
)
def test_a_run_whose_stored_data_is_damaged_fails_without_its_job_running(damaged, error):
    recorder, ran = Recorder(), []
    raised = pipeline.run_one(Task(ran.append), claimed(**damaged), recorder)
    assert isinstance(raised, error)
    assert (recorder.told, ran) == ([("failed", "run-1")], [])


def test_the_job_is_told_of_its_run():
    seen = []
    now = datetime.now(UTC)
    run = claimed(attempt=3, deaths=1, max_attempts=7, sealed_cursor=b'"page-2"', scheduled_for=now)
    pipeline.run_one(Task(seen.append), run, Recorder())
    (ctx,) = seen
    assert (ctx.run_id, ctx.event, ctx.tenant, ctx.cursor, ctx.scheduled_for) == (
        "run-1", "test.passing", ACME, "page-2", now,
    )  # fmt: skip
    assert (ctx.attempt, ctx.max_attempts) == (2, 7), "the death of a process is no try of the job's"


def test_a_checkpoint_is_the_recorders_to_keep():
    recorder = Recorder()
    pipeline.run_one(Task(lambda ctx: ctx.checkpoint("page-3")), claimed(), recorder)
    assert recorder.told == [("cursor", "run-1"), ("completed", "run-1")]


# What breaks outside of the job


def test_what_breaks_outside_of_the_job_closes_the_run_and_is_logged(lines):
    recorder, error = Recorder(), RuntimeError("outside")
    assert pipeline.guarded(Task(breaks={"run-1": error}), claimed(), recorder) is error
    assert recorder.told == [("broken", "run-1")]
    (line,) = lines
    assert (line["event"], line["run"], line["tenant"]) == ("attempt_failed_outside_its_job", "run-1", "acme")
    assert line["exc_info"]


def test_a_run_whose_end_meets_no_database_is_left_to_be_reclaimed():
    recorder = Recorder(refuses=psycopg.OperationalError("server closed the connection"))
    assert isinstance(pipeline.guarded(Task(echo), claimed(), recorder), psycopg.OperationalError)
    assert recorder.told == []


def test_a_run_whose_end_is_refused_is_closed():
    recorder = Recorder(refuses=psycopg.DataError("refused"))
    pipeline.guarded(Task(echo), claimed(), recorder)
    assert recorder.told == [("broken", "run-1")]


def test_the_current_run_is_known_inside_and_forgotten_after_it():
    seen = []
    run = claimed()
    pipeline.guarded(Task(lambda ctx: seen.append(pipeline.current_run.get())), run, Recorder())
    assert (seen, pipeline.current_run.get()) == ([run], None)


# A packet


def packet(*ids, **fields):
    return [claimed(run_id, **fields) for run_id in ids]


def test_the_runs_of_a_packet_run_one_after_another():
    recorder = Recorder()
    assert pipeline.run_each(Task(echo), packet("a", "b", "c"), recorder) is None
    assert recorder.told == [("completed", "a"), ("completed", "b"), ("completed", "c")]


@pytest.mark.parametrize(
    ("task", "end"),
    [
        (Task(echo, breaks={"b": RuntimeError("outside")}), "broken"),
        (Task(lambda ctx: 1 / (ctx.run_id != "b")), "retry"),
        (Task(lambda ctx: exit(1) if ctx.run_id == "b" else None), "retry"),
        (Task(lambda ctx: object() if ctx.run_id == "b" else None), "failed"),
    ],
    ids=["breaks outside of its job", "raises", "exits", "returns what is no JSON"],
)
def test_what_one_run_does_costs_its_neighbours_nothing(task, end, lines):
    recorder = Recorder()
    pipeline.run_each(task, packet("a", "b", "c"), recorder)
    assert recorder.told == [("completed", "a"), (end, "b"), ("completed", "c")]


def test_what_is_not_begun_when_the_packets_time_is_up_is_requeued(monkeypatch):
    monkeypatch.setenv("CGK_PACKET_BUDGET_SECONDS", "0.05")
    use_settings(None)
    recorder = Recorder()
    task = Task(lambda ctx: threading.Event().wait(0.1) and None)
    pipeline.run_each(task, packet("a", "b", "c"), recorder)
    assert recorder.told == [("completed", "a"), ("requeued", "b"), ("requeued", "c")]


def test_a_run_that_expires_while_its_packet_runs_is_requeued_for_the_dispatcher_to_close():
    recorder = Recorder()
    past = datetime.now(UTC) - timedelta(seconds=1)
    runs = [claimed("a"), claimed("b", expires_at=past), claimed("c", expires_at=past + timedelta(hours=1))]
    pipeline.run_each(Task(echo), runs, recorder)
    assert recorder.told == [("completed", "a"), ("requeued", "b"), ("completed", "c")]


def test_an_empty_packet_is_nothing_to_do():
    recorder = Recorder()
    assert pipeline.run_each(Task(echo), [], recorder) is None
    assert recorder.told == []


# The same attempt for everybody who runs jobs


def by_worker(handler, timeout):
    task = Task(handler)
    task._jobs = [Job("walk", "test.passing", handler, retry=RetryConfig(1), timeout=timeout)]
    recorder = Recorder()
    pipeline.guarded(task, claimed(new_run_id()), recorder)
    return recorder.told[-1][0]


def by_local_provider(handler, timeout):
    define_job("walk", event=Passing, retry=RetryConfig(1), timeout=timeout)(handler)
    provider = LocalProvider()
    try:
        run_id = provider.send(Passing(tenant_id="acme"), SendOptions()).id
        wait_until(lambda: provider.get_run_status(run_id).is_closed, 10, "the local run ends")
        return provider.get_run_status(run_id).state
    finally:
        provider.close()
        remove_job("walk")


def by_eager_task(handler, timeout):
    job = Job("walk", "test.passing", handler, retry=RetryConfig(1), timeout=timeout)
    return _kind_of(lambda: run_inline(job, Passing(tenant_id="acme"), presumed("acme")))


def by_test(handler, timeout):
    job = Job("walk", "test.passing", handler, retry=RetryConfig(1), timeout=timeout)
    return _kind_of(lambda: run_job(job, Passing(tenant_id="acme")))


def by_own_runner(handler, timeout):
    ctx = JobContext("walk", new_run_id(), "test.passing", ACME, Passing(tenant_id="acme"))
    return _kind_of(lambda: create_job_handler(handler, timeout=timeout)(ctx))


def _kind_of(run):
    try:
        run()
    except Exception:
        return "failed"
    return "completed"


EVERYBODY = pytest.mark.parametrize(
    "run", [by_worker, by_local_provider, by_eager_task, by_test, by_own_runner], ids=lambda run: run.__name__
)


def too_long(ctx):
    while True:
        threading.Event().wait(0.005)


def raising(error):
    def handler(ctx):
        raise error

    return handler


@EVERYBODY
def test_a_job_sees_its_tenant_and_its_names_on_each_line(run):
    seen = []

    def look(ctx):
        names = structlog.contextvars.get_contextvars()
        seen.append((find_current_tenant().id, names["tenant"], names["_event"], names["run"] == ctx.run_id))

    assert run(look, 20) == "completed"
    assert seen == [("acme", "acme", "test.passing", True)]
    assert find_current_tenant() is None


@EVERYBODY
@pytest.mark.parametrize(
    ("handler", "timeout", "event", "code"),
    [
        (echo, 20, "run_completed", None),
        (raising(PermanentError("no", "ACCOUNT_NOT_FOUND")), 20, "run_failed", "ACCOUNT_NOT_FOUND"),
        (raising(ConnectionRefusedError("no")), 20, "run_failed", "CONNECTION_REFUSED"),
        (too_long, 0.3, "run_failed", "TIMEOUT"),
    ],
    ids=["returns", "raises a permanent error", "raises a transient error", "takes too long"],
)
def test_an_attempt_has_the_same_lines_in_the_same_order(run, lines, handler, timeout, event, code):
    """Its start, what the job logs, and how it ended with the code of its error; each with the tenant."""

    def logging_first(ctx):
        structlog.get_logger("cgk_tasks.jobs").info("inside")
        return handler(ctx)

    assert run(logging_first, timeout) == event.removeprefix("run_")
    own = [line for line in lines if line["event"] in {"run_started", "inside", event}]
    assert [(line["event"], line["tenant"]) for line in own] == [
        ("run_started", "acme"),
        ("inside", "acme"),
        (event, "acme"),
    ]
    assert (own[-1].get("code"), own[-1]["seconds"] > 0) == (code, True)
