"""Time that a test lets pass at once: what is due meanwhile runs at its time."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import JobContext, RetryConfig, define_job
from cgk_tasks.config import use_settings
from cgk_tasks.errors import TransientError
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.sql.clock import known_now
from cgk_tasks.testing import LocalJobs
from cgk_tasks.workflows.define import define_workflow
from tests.support.waiting import busyness

DAY = timedelta(days=1)


class Season(TenantEvent, event="unit.season"):
    """Something that takes long."""


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    remove_job("unit-season")
    use_settings(None)


@pytest.fixture
def jobs():
    with LocalJobs() as jobs:
        yield jobs


def begin(jobs, function):
    define_workflow("unit-season", event=Season)(function)
    jobs.send(Season(tenant_id="acme"))


def test_a_year_of_daily_sleeps_passes_in_a_second(jobs):
    def season(wf):
        days = []
        for _ in range(365):
            wf.sleep("day", DAY)
            days.append(wf.now())
        return [(last - first).days for first, last in [(days[0], days[-1])]]

    begun = time.monotonic()
    begin(jobs, season)
    (run,) = jobs.advance(timedelta(days=366), timeout=60)
    assert (run.state, run.result, run.attempt) == ("completed", [364], 366)
    assert time.monotonic() - begun < 5 * busyness()


def test_what_is_due_later_waits_on(jobs):
    begin(jobs, lambda wf: wf.sleep("three", 3 * DAY))
    (run,) = jobs.advance(2 * DAY)
    assert run.state == "scheduled"
    (run,) = jobs.advance(2 * DAY)
    assert run.state == "completed"


def test_a_signal_comes_before_the_time_of_its_wait_is_over(jobs):
    begin(jobs, lambda wf: [wf.wait_for_signal("go", timeout=3 * DAY), wf.wait_for_signal("go", timeout=DAY)])
    (run,) = jobs.advance(2 * DAY)
    jobs.client.signal(run.id, "go", 7)
    (run,) = jobs.advance(2 * DAY)
    assert run.result == [7, None]


def test_retries_come_at_their_time(jobs):
    tries = []

    def season(ctx: JobContext[Season]) -> None:
        tries.append(known_now())
        raise TransientError("later")

    retry = RetryConfig(max_attempts=3, initial_delay=3600, max_delay=10_000, jitter=False)
    define_job("unit-season", event=Season, retry=retry)(season)
    jobs.send(Season(tenant_id="acme"))
    (run,) = jobs.advance(DAY)
    assert (run.state, [round((at - tries[0]).total_seconds() / 3600) for at in tries]) == ("failed", [0, 1, 3])


def test_the_time_is_again_what_it_was_when_the_block_ends():
    with LocalJobs() as jobs:
        jobs.advance(365 * DAY)
        assert known_now() - datetime.now(UTC) > 364 * DAY
    assert known_now() - datetime.now(UTC) < DAY
