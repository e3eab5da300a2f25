"""One trace from the sender's span through a run, its attempts and children; across real processes."""

import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from cgk_tasks import get_job_status, send_job, send_jobs, trigger_and_wait
from cgk_tasks.config import get_settings, use_settings
from cgk_tasks.dashboard.data.run_record import run_record
from cgk_tasks.runs import tracing
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.monitoring.otlp import Receiver
from tests.monitoring.trace_jobs import Both, Traced
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow

SECRET = "ben.gunn@example.org"


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def worker(start_worker, receiver):
    return start_worker(
        ["tests.monitoring.trace_jobs"], CGK_TRACING="true", CGK_EXTERNAL_EVENTS="test.traced",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="100",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def tracing_on(worker, monkeypatch):
    monkeypatch.setenv("CGK_TRACING", "true")
    use_settings(None)
    yield
    monkeypatch.undo()
    use_settings(None)


TRACER = TracerProvider().get_tracer("the sender")


def sent(receiver, attempts=1, **fields):
    """Send inside a span; returns that span's ids and the spans of the run's attempts."""
    with TRACER.start_as_current_span("POST /checkout") as span:
        run = send_job(Traced(tenant_id="acme", **fields)).id
    wait_closed(run)
    found = wait_until(lambda: spans if len(spans := receiver.of_run(run)) == attempts else None)
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", found


def test_an_attempt_is_a_child_of_the_senders_span(receiver):
    trace_id, span_id, (attempt,) = sent(receiver, how="nothing")
    assert (attempt.trace_id, attempt.parent_id) == (trace_id, span_id)


def test_an_attempts_span_names_tenant_event_job_and_outcome(receiver):
    *_ids, (attempt,) = sent(receiver, how="nothing")
    assert attempt.name == "run test.traced"
    assert attempt.service == "cgk-tasks-worker"
    assert {name: attempt.attributes[name] for name in ("cgk.tenant", "cgk.event", "cgk.job", "cgk.attempt",
    "cgk.outcome")} == {
        "cgk.tenant": "acme", "cgk.event": "test.traced", "cgk.job": "test-traced", "cgk.attempt": 1,
        "cgk.outcome": "completed",
    }  # fmt: skip
    assert not attempt.is_error


def test_all_attempts_are_in_the_senders_trace(receiver):
    trace_id, span_id, (first, second) = sent(receiver, attempts=2, how="fail once")
    assert {first.trace_id, second.trace_id} == {trace_id}
    assert {first.parent_id, second.parent_id} == {span_id}
    assert (first.attributes["cgk.outcome"], first.is_error) == ("retry", True)
    assert (second.attributes["cgk.outcome"], second.is_error) == ("completed", False)


def test_a_failed_attempt_keeps_its_trace_with_its_error(receiver):
    """The dashboard leads there from the page of the run, which has no other trace once it has closed."""
    *_ids, (first, _second) = sent(receiver, attempts=2, how="fail once")
    (error,) = get_job_status(first.attributes["cgk.run"]).errors
    _version, trace_id, span_id, flags = error["trace"].split("-")
    assert (trace_id, span_id, int(flags, 16) & 1) == (first.trace_id, first.span_id, 1)


def test_a_failed_attempt_names_its_error_and_quotes_nothing(receiver):
    *_ids, (_first, last) = sent(receiver, attempts=2, how="fail", email=SECRET)
    assert last.is_error
    assert last.attributes["error.type"] == "TransientError"
    assert last.events == []
    assert SECRET.encode() not in receiver.raw


def test_the_error_code_of_a_run_that_failed_for_good_is_an_attribute(receiver):
    *_ids, (attempt,) = sent(receiver, how="fail for good")
    assert attempt.attributes["cgk.error_code"] == "ACCOUNT_NOT_FOUND"


def test_the_jobs_own_spans_are_inside_the_attempts(receiver):
    *_ids, (attempt,) = sent(receiver, how="nothing")
    own = wait_until(
        lambda: [span for span in receiver.named("the job's own span") if span.parent_id == attempt.span_id]
    )
    assert own[0].trace_id == attempt.trace_id


def test_statements_of_sql_are_spans_below_the_attempt_without_their_values(receiver):
    with TRACER.start_as_current_span("POST /checkout"):
        result = trigger_and_wait(Traced(tenant_id="acme", how="send", email=SECRET), timeout=30)
    (attempt,) = wait_until(lambda: receiver.of_run(result.run_id))
    (insert, *_others) = wait_until(
        lambda: [span for span in receiver.named("transitions.insert_run") if span.trace_id == attempt.trace_id]
    )
    assert {name: insert.attributes[name] for name in ("db.system", "db.operation.name")} == {
        "db.system": "postgresql", "db.operation.name": "transitions.insert_run",
    }  # fmt: skip
    assert SECRET.encode() not in receiver.raw


def test_what_a_job_sends_is_in_the_same_trace(receiver):
    with TRACER.start_as_current_span("POST /checkout") as span:
        result = trigger_and_wait(Traced(tenant_id="acme", how="send"), timeout=30)
    (parent,) = wait_until(lambda: receiver.of_run(result.run_id))
    (child,) = wait_until(lambda: receiver.of_run(result.data))
    assert child.trace_id == parent.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert child.parent_id == parent.span_id


def test_the_child_runs_of_an_event_with_several_jobs_are_below_their_parent(receiver):
    with TRACER.start_as_current_span("POST /checkout"):
        run = send_job(Both(tenant_id="acme")).id
    wait_closed(run)
    (parent,) = wait_until(lambda: receiver.of_run(run))
    children = wait_until(
        lambda: (
            found
            if len(found := [s for s in receiver.named("run test.both") if s.parent_id == parent.span_id]) == 2
            else None
        )
    )
    assert {child.attributes["cgk.job"] for child in children} == {"test-left", "test-right"}
    (inside,) = receiver.named("in a coroutine")
    assert inside.parent_id in {child.span_id for child in children}


def test_each_run_of_a_bulk_send_is_in_the_senders_trace(receiver):
    with TRACER.start_as_current_span("import") as span:
        runs = [handle.id for handle in send_jobs([Traced(tenant_id="acme", how="nothing") for _ in range(30)])]
    for run in runs:
        wait_closed(run)
    spans = wait_until(lambda: found if len(found := [s for run in runs for s in receiver.of_run(run)]) == 30 else None)
    assert {one.trace_id for one in spans} == {f"{span.get_span_context().trace_id:032x}"}
    assert {run_record(run).facts["trace"].split("-")[1] for run in runs} == {spans[0].trace_id}


def test_the_trace_of_a_run_that_never_failed_stays_on_record(receiver):
    trace_id, span_id, (attempt,) = sent(receiver, how="nothing")
    found = run_record(attempt.attributes["cgk.run"]).facts["trace"]
    assert found.startswith(f"00-{trace_id}-{span_id}-")


def test_the_attempts_of_a_run_that_nobody_traced_share_a_trace(receiver):
    run = send_job(Traced(tenant_id="acme", how="fail once")).id
    wait_closed(run)
    first, second = wait_until(lambda: spans if len(spans := receiver.of_run(run)) == 2 else None)
    assert first.trace_id == second.trace_id


def test_another_producers_traceparent_is_taken_over(receiver):
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    producer = Celery("another", broker=get_settings().broker, set_as_current=False)
    message_id = producer.send_task(
        "test.traced", kwargs={"tenantId": "acme", "how": "nothing"}, queue=get_settings().default_queue,
        headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    ).id  # fmt: skip
    (attempt,) = wait_until(lambda: receiver.of_run(message_id))
    assert (attempt.trace_id, attempt.parent_id) == (trace_id, "b7ad6b7169203331")


def test_a_trace_that_is_not_sampled_makes_no_spans(receiver):
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("quiet").start_as_current_span("quiet"):
        quiet = send_job(Traced(tenant_id="acme", how="nothing")).id
    wait_closed(quiet)
    *_ids, _attempts = sent(receiver, how="nothing")  # what ended later has arrived
    assert receiver.of_run(quiet) == []


def test_log_lines_of_a_traced_run_carry_its_trace(receiver, worker):
    trace_id, *_rest = sent(receiver, how="nothing")
    wait_until(lambda: any(trace_id in line and '"inside"' in line for line in worker.log.splitlines()))


def test_the_spans_of_a_worker_that_is_stopped_are_not_lost(receiver, start_worker):
    queue = "tracing-stopped"
    stopped = start_worker(
        ["tests.monitoring.trace_jobs"], CGK_TRACING="true", CGK_DEFAULT_QUEUE=queue, concurrency=1,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="600000",
    )  # fmt: skip
    run = send_job(Traced(tenant_id="acme", how="nothing"), queue=queue).id
    wait_closed(run)
    stopped.stop()
    wait_until(lambda: receiver.of_run(run))


def test_nothing_is_kept_with_a_run_while_tracing_is_off(monkeypatch):
    monkeypatch.delenv("CGK_TRACING")
    use_settings(None)
    with TRACER.start_as_current_span("POST /checkout"):
        run = send_job(Traced(tenant_id="acme", how="nothing"), delay=3600).id
    with autocommit() as connection:
        rows = fetch(connection, "SELECT trace, search_fields FROM cgk.runs WHERE id = %(run)s", {"run": run})
    assert rows == [{"trace": None, "search_fields": ""}]


OFF = """
import sys
import cgk_tasks.celery_app, cgk_tasks.worker.pipeline
# redis-py imports the part for metrics wherever OpenTelemetry is installed.
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
"""


def test_nothing_of_opentelemetrys_tracing_is_imported_while_tracing_is_off(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", OFF], cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_tracing_without_opentelemetry_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tracing, "find_spec", lambda _name: None)
    tracing._require.cache_clear()
    try:
        with pytest.raises(tracing.ConfigurationError, match=r"pip install 'cgk-tasks\[otel\]'"):
            send_job(Traced(tenant_id="acme", how="nothing"))
    finally:
        tracing._require.cache_clear()
