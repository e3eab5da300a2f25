"""A worker inside a process: it does what workers do, and leaves the process as it was."""

import asyncio
import logging
import os
import signal
import socket
import threading

import billiard.pool
import pytest
from celery._state import task_join_will_block
from kombu.asynchronous import get_event_loop
from structlog.testing import capture_logs

import cgk_tasks
from cgk_tasks import cancel_run, embedded_worker, get_run, send_job, tenant_context, worker_lifespan
from cgk_tasks.errors import ConfigurationError, InvalidOptionError
from cgk_tasks.events import TenantEvent
from cgk_tasks.in_process import worker as module
from cgk_tasks.worker import process_state
from tests.support.jobs import Behave, Slow
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import list_workers


def send(action, argument="", **options):
    return send_job(Behave(tenant_id="acme", action=action, argument=argument), **options).id


def test_jobs_run_in_threads_of_the_process(worker, tmp_path):
    run = send("wait_for_file", str(tmp_path / "go"))
    started = tmp_path / "go.started"
    wait_until(lambda: started.exists() and started.read_text().endswith("\n"), what="its job is on")
    assert started.read_text() == f"{run} {os.getpid()}\n"
    (tmp_path / "go").touch()
    assert wait_closed(run).result == "released"


def test_jobs_write_are_retried_and_fail_as_in_other_workers(worker):
    written, again, failed = send("note", "inside"), send("fail_then_succeed", "2"), send("fail_permanently")
    assert wait_closed(written).state == "completed"
    assert wait_closed(again).result == 3
    assert wait_closed(failed).error_code == "ACCOUNT_NOT_FOUND"


def test_it_dispatches_what_is_due(worker):
    assert wait_closed(send("echo", "later", delay=0.3)).result == "later"


def test_a_run_that_is_cancelled_is_interrupted(worker, tmp_path):
    run = send("wait_for_file", str(tmp_path / "never"))
    wait_until((tmp_path / "never.started").exists, what="its job is on")
    cancel_run(run)
    assert wait_closed(run).state == "cancelled"


def test_a_job_is_interrupted_at_its_time_limit(worker):
    assert wait_closed(send_job(Slow(tenant_id="acme", seconds=30)).id).error_code == "TIMEOUT"


def test_the_tenant_of_whoever_starts_it_is_not_that_of_its_jobs(app):
    with tenant_context("globex"), embedded_worker(1):
        pass
    with tenant_context("globex"):
        started = embedded_worker(1).start()
    try:
        assert wait_closed(send("describe")).result["tenant"] == "acme"
    finally:
        started.stop()


def what_a_worker_could_change():
    return {
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "log handlers": list(logging.getLogger().handlers),
        "log level": logging.getLogger().level,
        "celery's log": (list(logging.getLogger("celery").handlers), logging.getLogger("celery").level),
        "time-out of sockets": socket.getdefaulttimeout(),
        "locks of billiard": billiard.pool.Lock,
        "lock of the clock": cgk_tasks.app.clock.mutex,
        "event loop": get_event_loop(),
        "waiting for results": task_join_will_block(),
    }


def test_it_leaves_the_process_as_it_was(app):
    before = what_a_worker_could_change()
    with embedded_worker(1):
        assert wait_closed(send("echo")).state == "completed"
        assert what_a_worker_could_change() == before
    assert what_a_worker_could_change() == before
    assert "CGK_WORKER_ID" not in os.environ
    assert process_state.known() is None
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("cgk-job", "cgk-emb"))] == []


def test_results_of_celery_can_be_waited_for_beside_it(worker):
    fields = {"tenant_id": "acme", "action": "echo", "argument": "x"}
    assert cgk_tasks.app.send_task("test.behave", kwargs=fields).get(timeout=20) == "x"


def test_it_leaves_the_record_when_it_stops(app):
    with embedded_worker(1):
        wait_until(lambda: f"embedded-{os.getpid()}@" in names(), what="its heartbeat is on record")
    assert f"embedded-{os.getpid()}@" not in names()


def names():
    return "".join(row["name"] for row in list_workers())


def test_connections_of_the_application_outlive_it(app):
    run = send("echo")
    with embedded_worker(1):
        wait_closed(run)
    assert get_run(run).state == "completed"


def test_a_second_one_in_the_process_is_refused(worker):
    with pytest.raises(ConfigurationError, match="has a worker inside already, which runs"):
        embedded_worker(1).start()
    assert worker.is_running


def test_one_after_the_other_is_fine(app):
    for argument in ("first", "second"):
        with embedded_worker(1):
            assert wait_closed(send("echo", argument)).result == argument


def test_one_that_has_stopped_may_start_again(app):
    worker = embedded_worker(1)
    for argument in ("first", "second"):
        with worker:
            assert wait_closed(send("echo", argument)).result == argument
    assert not worker.is_running


def test_stopping_twice_or_without_a_start_does_nothing(app):
    worker = embedded_worker(1)
    assert worker.stop() is True
    with worker:
        assert worker.stop() is True
        assert worker.stop() is True


class Late(TenantEvent, event="test.lateInside"):
    """Defined after this process's app was made."""


def test_it_knows_the_jobs_that_are_defined_before_its_start(app):
    cgk_tasks.define_job("late-inside", event=Late)(lambda ctx: "known")
    try:
        with embedded_worker(1):
            assert wait_closed(send_job(Late(tenant_id="acme")).id).result == "known"
    finally:
        cgk_tasks.jobs.registry.remove_job("late-inside")


def test_other_queues_are_taken_only_if_it_is_told_to(app):
    with embedded_worker(1, queues=["inside-only"]):
        elsewhere, here = send("echo", "elsewhere"), send("echo", "here", queue="inside-only")
        assert wait_closed(here).result == "here"
        assert get_run(elsewhere).state == "pending"
    with embedded_worker(1):
        assert wait_closed(elsewhere).result == "elsewhere"


def test_jobs_that_nobody_can_kill_at_their_limit_are_named_at_the_start(app):
    with capture_logs() as lines, embedded_worker(1):
        pass
    (line,) = [line for line in lines if line["event"] == "hard_limits_do_not_kill"]
    assert line["number"] >= 1
    assert "Nobody can kill it" in line["hint"]


def test_a_fork_has_no_worker_and_its_parent_still_has(worker):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        with os.fdopen(write, "w") as told:
            told.write(f"{worker.is_running} {worker.stop()} {process_state.known()} {os.getenv('CGK_WORKER_ID')}")
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as told:
        assert told.read() == "False True None None"
    assert worker.is_running
    assert wait_closed(send("echo", "still")).result == "still"


def test_asyncio_starts_and_stops_it(app):
    async def serve():
        async with embedded_worker(1) as worker:
            run = send("echo", "async")
            return worker.is_running, await asyncio.to_thread(wait_closed, run)

    was_running, run = asyncio.run(serve())
    assert (was_running, run.result) == (True, "async")


def test_an_application_of_starlette_has_it_as_its_lifespan(app):
    async def serve():
        from starlette.applications import Starlette

        application = Starlette(lifespan=worker_lifespan(1))
        async with application.router.lifespan_context(application):
            run = send("echo", "lifespan")
            return await asyncio.to_thread(wait_closed, run)

    assert asyncio.run(serve()).result == "lifespan"
    assert names().count(f"embedded-{os.getpid()}@") == 0


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": True}, {"concurrency": 2.5}, {"queues": "emails"}, {"queues": [""]},
     {"stop_seconds": -1}, {"stop_seconds": float("nan")}],
    ids=str,
)  # fmt: skip
def test_options_are_checked_where_they_are_given(options):
    with pytest.raises(InvalidOptionError):
        embedded_worker(**options)


@pytest.mark.parametrize("missing", ["CGK_DATABASE_URL", "CGK_BROKER_URL"])
def test_without_a_server_it_says_what_is_missing(app, setting, missing):
    setting(**{missing: None})
    with pytest.raises(ConfigurationError, match=missing):
        embedded_worker(1).start()


def test_it_does_not_run_under_gevent(app, monkeypatch):
    monkeypatch.setattr(module, "detect_environment", lambda: "gevent")
    with pytest.raises(ConfigurationError, match="under gevent"):
        embedded_worker(1).start()
