"""Workers and their children die, stop and start; Redis and PostgreSQL live."""

import os
from datetime import UTC, datetime

import pytest

from cgk_tasks import cancel_job, get_job_status, send_jobs
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.faults.jobs import Poison
from tests.faults.journal import is_alive, once, rows_written, states, wait_completed
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import ROOT


def test_children_die_with_their_killed_worker(worker, journal):
    runs = journal.send(2, seconds=60)
    children = journal.wait_at_work(runs, 2)
    worker.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in children), 5, "the children dead")


@pytest.mark.parametrize("worker_count", [2])
def test_the_other_worker_takes_over_when_the_leader_is_killed_with_all_its_processes(workers, journal):
    leader, other = leader_first(workers)
    runs = journal.send(50, seconds=0.05)
    journal.wait_at_work(runs, 4)
    later = journal.send(5, delay=1.0)
    leader.kill_group()
    wait_completed([*runs, *later], 45)
    assert rows_written([*runs, *later]) == once([*runs, *later])
    assert journal.overlaps == []
    assert leader_of(workers) is other


def leader_of(workers):
    statement = "SELECT w.name FROM cgk.leases l JOIN cgk.workers w ON w.id = l.holder"
    with autocommit() as connection:
        rows = fetch(connection, statement)
    return next((node for node in workers if rows and node.name() == rows[0]["name"]), None)


def leader_first(workers):
    leader = wait_until(lambda: leader_of(workers), what="a leader")
    return sorted(workers, key=lambda node: node is not leader)


def test_a_run_that_kills_its_process_fails_as_poison_and_its_neighbours_complete(worker, journal):
    before, after = journal.work(1), journal.work(2)
    poison = Poison(tenant_id="acme", journal=str(journal.folder))
    first, bad, last = [handle.id for handle in send_jobs([before, poison, after])]
    status = wait_closed(bad, 30)
    wait_completed([first, last])
    assert (status.state, status.error_code, status.deaths) == ("failed", "POISON_PILL", 3)
    assert journal.starts([bad]) == {bad: 3}
    assert rows_written([first, last]) == once([first, last])


def test_a_stopped_worker_finishes_what_runs_and_leaves_what_waits_to_the_next(worker, journal):
    runs = journal.send(100, seconds=0.02)
    running = journal.send(2, seconds=4.0, priority=9)
    journal.wait_at_work(running, 2)
    worker.kill("SIGTERM")
    assert worker.wait_exit(30) == 0
    assert journal.ends(running) == once(running)
    worker.restart()
    wait_completed([*runs, *running])
    assert rows_written([*runs, *running]) == once([*runs, *running])
    assert journal.starts(runs) == once(runs)


@pytest.mark.parametrize("worker_count", [2])
def test_a_stopping_worker_keeps_its_long_run_although_others_would_take_those_of_a_silent_one(workers, journal):
    (run,) = journal.send(1, seconds=4.5)  # longer than the time after which a silent worker's runs are taken
    (pid,) = journal.wait_at_work([run])
    stopping = next(node for node in workers if pid in [child.pid for child in node.children()])
    stopping.kill("SIGTERM")
    assert stopping.wait_exit(15) == 0
    wait_completed([run])
    assert journal.starts([run]) == once([run])


def test_a_run_whose_time_to_live_passes_while_no_worker_is_there_does_not_run(worker, journal):
    worker.kill_group()
    (expired,) = journal.send(1, expires=0.2)
    (kept,) = journal.send(1, expires=3600.0)
    wait_until(lambda: get_job_status(expired).expires_at < datetime.now(UTC), 5)
    worker.restart()
    wait_completed([kept])
    assert wait_closed(expired).state == "expired"
    assert journal.starts([expired])[expired] == 0


def test_a_run_that_is_cancelled_while_no_worker_is_there_does_not_run(worker, journal):
    worker.kill_group()
    cancelled, kept = journal.send(2)
    cancel_job(cancelled)
    worker.restart()
    wait_completed([kept])
    assert get_job_status(cancelled).state == "cancelled"
    assert journal.starts([cancelled])[cancelled] == 0


class TestVisibilityTimeout:
    """Celery on Redis delivers again what is not acknowledged within the visibility timeout: here two seconds."""

    @pytest.fixture
    def worker_environment(self, tmp_path):
        (tmp_path / "celeryconfig.py").write_text(
            "from cgk_tasks.celeryconfig import *\n"
            "broker_transport_options = {**broker_transport_options, 'visibility_timeout': 2}\n"
        )
        # "Safe": the working folder, which has a celeryconfig.py too, does not come first.
        return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}

    @pytest.mark.parametrize("worker_count", [2])
    def test_a_run_delayed_or_running_for_longer_than_that_executes_exactly_once(self, celery_setup, journal):
        asked = celery_setup.app.control.inspect(timeout=5).conf()
        assert {conf["broker_transport_options"]["visibility_timeout"] for conf in asked.values()} == {2}
        delayed = journal.send(3, delay=2.5)
        long = journal.send(3, seconds=3.0)
        wait_completed([*delayed, *long], 40)
        assert journal.starts([*delayed, *long]) == once([*delayed, *long])
        assert rows_written([*delayed, *long]) == once([*delayed, *long])


class TestAnotherProducer:
    """A Celery app that knows nothing of cgk_tasks sends to the same queue."""

    ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}

    def test_its_message_becomes_a_run_under_the_messages_id(self, celery_setup):
        result = celery_setup.app.send_task("order.created", kwargs=self.ORDER)
        assert result.get(timeout=20) == "o-1"
        assert wait_closed(result.id).event == "order.created"

    def test_a_message_that_comes_twice_runs_once(self, celery_setup):
        task_id = "0194a000-0000-7000-8000-00000000abcd"
        results = [celery_setup.app.send_task("order.created", kwargs=self.ORDER, task_id=task_id) for _ in range(2)]
        assert results[0].get(timeout=20) == "o-1"
        for _ in range(4):  # what was sent before these has been received before them
            celery_setup.app.send_task("order.created", kwargs=self.ORDER).get(timeout=20)
        assert rows_written([task_id]) == once([task_id])

    def test_a_bad_payload_is_refused_without_a_run_and_the_worker_lives_on(self, celery_setup, worker):
        bad = celery_setup.app.send_task("order.created", kwargs={"tenantId": "acme", "orderId": 7})
        good = celery_setup.app.send_task("order.created", kwargs=self.ORDER)
        assert good.get(timeout=20) == "o-1"
        worker.assert_log_exists("order.created")
        assert states([bad.id]) == {}
