"""Workers that are told to stop: by a signal to the main process, or to all processes as systemd and `tini -g` do."""

import signal

import psutil
import pytest
import redis

from cgk_tasks import cancel_job, get_job_status, send_job
from cgk_tasks.config import get_settings
from cgk_tasks.runs.store import record_of
from tests.faults.journal import once
from tests.faults.stop_jobs import Long, Pages
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import running_worker

GRACE = 1.0
OF_THE_WORKER = {"CGK_JOB_MODULES": "tests.faults.jobs,tests.faults.stop_jobs", "CGK_STOP_GRACE_SECONDS": str(GRACE)}
TO_MAIN, TO_ALL = "main process", "all processes"
pytestmark = pytest.mark.slow
both = pytest.mark.parametrize("to", [TO_MAIN, TO_ALL])


@pytest.fixture
def worker_environment():
    return OF_THE_WORKER


def tell(worker, to, number=signal.SIGTERM):
    processes = [psutil.Process(worker.worker.pid)]
    if to == TO_ALL:
        processes = [*worker.children(), *processes]
    for process in processes:
        process.send_signal(number)


def start_long(journal, count=1, seconds=60.0, stubborn=False):
    runs = [
        send_job(Long(tenant_id="acme", journal=str(journal.folder), seconds=seconds, stubborn=stubborn)).id
        for _ in range(count)
    ]
    journal.wait_at_work(runs, count)
    return runs


def exit_code(worker):
    process = worker.worker.process
    wait_until(lambda: process.poll() is not None, GRACE + 8, "the worker has ended")
    return process.returncode


def assert_as_if_not_begun(run):
    record = record_of(run)
    assert (record["state"], record["attempt"], record["deaths"], record["errors"]) == ("pending", 0, 0, [])
    cancel_job(run)


@both
def test_a_run_that_outlasts_the_grace_is_given_back_and_nothing_is_counted(worker, journal, to):
    (run,) = start_long(journal)
    tell(worker, to)
    assert exit_code(worker) == 0
    assert_as_if_not_begun(run)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_that_cannot_kill_its_jobs_alone_gives_them_back_and_ends(journal, broker_node, services, pool):
    services.postgres.start()
    broker_node.start()
    with running_worker(["tests.faults.stop_jobs"], pool=pool, CGK_STOP_GRACE_SECONDS=str(GRACE)) as worker:
        (run,) = start_long(journal, stubborn=True)
        worker.process.send_signal(signal.SIGTERM)
        wait_until(lambda: worker.process.poll() is not None, GRACE + 8, "the worker has ended")
        assert worker.process.returncode == 0
    assert_as_if_not_begun(run)


@both
def test_a_run_that_ends_within_the_grace_ends(worker, journal, to):
    (run,) = start_long(journal, seconds=0.7)
    tell(worker, to)
    assert exit_code(worker) == 0
    assert get_job_status(run).state == "completed"
    assert journal.ends([run]) == once([run])


def test_a_run_that_takes_no_interrupt_is_killed_and_nothing_is_counted(worker, journal):
    (run,) = start_long(journal, stubborn=True)
    worker.kill("SIGTERM")
    assert exit_code(worker) == 0
    assert_as_if_not_begun(run)


class TestALongGrace:
    @pytest.fixture
    def worker_environment(self):
        return OF_THE_WORKER | {"CGK_STOP_GRACE_SECONDS": "100"}

    def test_a_run_with_checkpoints_ends_at_the_next_one_and_goes_on_from_there(self, worker, journal):
        run = send_job(Pages(tenant_id="acme", journal=str(journal.folder), pages=12, seconds=0.2)).id
        path = journal.folder / f"{run}.pages"
        wait_until(path.exists)
        worker.kill("SIGTERM")
        assert exit_code(worker) == 0
        assert len(path.read_text().splitlines()) < 12
        worker.restart()
        status = wait_closed(run)
        assert (status.state, status.attempt, status.deaths) == ("completed", 1, 0)
        assert path.read_text().splitlines() == [f"{page} attempt 1" for page in range(12)]

    @both
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
    def test_another_signal_ends_the_grace(self, worker, journal, to, number):
        (run,) = start_long(journal)
        tell(worker, to)
        worker.wait_for_log("Warm shutdown")
        tell(worker, to, number)
        assert exit_code(worker) == 0
        assert_as_if_not_begun(run)

    def test_sigquit_alone_waits_for_nothing(self, worker, journal):
        (run,) = start_long(journal)
        tell(worker, TO_ALL, signal.SIGQUIT)
        assert exit_code(worker) == 1
        assert_as_if_not_begun(run)

    def test_what_it_has_only_fetched_is_for_others_at_once(self, worker, broker, queue, journal):
        start_long(journal, count=2)  # the whole pool
        waiting = journal.send(3)
        with redis.Redis.from_url(broker.config()["url"]) as client:

            def in_the_broker():
                return sum(client.llen(key) for key in client.keys(f"{get_settings().key_prefix}{queue}*"))

            wait_until(lambda: not in_the_broker(), what="fetched")
            worker.kill("SIGTERM")
            wait_until(in_the_broker, what="put back")
        assert worker.worker.process.poll() is None
        assert journal.starts(waiting).total() == 0
