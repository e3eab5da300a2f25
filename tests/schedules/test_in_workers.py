"""Scheduled runs in a real worker, which carries beat with it (`-B`)."""

from datetime import datetime

import pytest

from cgk_tasks import get_job_status, retry_job
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.schedules.schedule import Schedule
from tests.schedules.conftest import rows
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import Worker

JOBS = ["tests.schedules.beat_jobs", "tests.support.jobs"]


class WorkerWithBeat(Worker):
    def _start(self):
        self._command = [*self._command, "-B", "-s", str(self.log_path) + ".beat"]
        return super()._start()


@pytest.fixture
def worker(django):
    started = WorkerWithBeat(JOBS)
    yield started.wait_ready()
    started.stop()


def test_runs_of_an_embedded_beat_run_and_are_told_their_nominal_time(worker):
    found = wait_until(
        lambda: rows(
            "SELECT id::text FROM cgk.run_history WHERE schedule = 'test-each-second' AND state = 'completed'"
        ),
        40.0,
    )
    assert rows("SELECT event FROM cgk.job_events WHERE event = 'test.twoSeconds'")
    status = get_job_status(found[0]["id"])
    assert datetime.fromisoformat(status.result) == status.scheduled_for

    replay = wait_closed(retry_job(status.id).id)
    assert (replay.result, replay.scheduled_for) == (status.result, status.scheduled_for)


def test_the_child_runs_of_an_event_with_two_jobs_have_their_parents_nominal_time(worker):
    nine = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
    fire(Schedule("test.two", "0 9 * * *", "UTC", "test.two"), nine, now=nine, tenant_id="acme")
    parent = rows(
        "SELECT id::text FROM cgk.runs WHERE schedule = 'test.two' UNION SELECT id::text FROM cgk.run_history "
        "WHERE schedule = 'test.two'"
    )[0]
    wait_closed(parent["id"])
    children = rows("SELECT scheduled_for FROM cgk.run_history WHERE parent_id = %(id)s", id=parent["id"])
    assert [child["scheduled_for"] for child in children] == [nine, nine]
