"""How runs of a real worker went, as the page of each shows it."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.dashboard.data.run_record import run_record
from tests.support.share_jobs import Nap
from tests.support.waiting import wait_closed


@pytest.fixture(scope="module")
def failed_once(start_worker):
    start_worker(["tests.support.share_jobs"])
    run = send_job(Nap(tenant_id="acme", seconds=0.05, fails_once=True)).id
    assert wait_closed(run, 60).state == "completed"
    return run


def test_attempts_and_pauses_follow_each_other_without_gaps(failed_once):
    entries = run_record(failed_once).waterfall.entries
    assert [(one.what, one.state) for one in entries] == [
        ("In queue", "done"), ("Attempt 1", "failed"), ("Pause", "done"), ("In queue", "done"), ("Attempt 2", "done"),
    ]  # fmt: skip
    assert [one.begins for one in entries[1:]] == [one.ends for one in entries[:-1]]


def test_the_pause_is_that_of_the_jobs_policy(failed_once):
    pause = run_record(failed_once).waterfall.entries[2]
    assert 0.15 < pause.seconds < 0.5


def test_the_page_has_a_picture_with_a_title_and_a_table(failed_once, dashboard):
    text = dashboard.browser("viola").open(f"/runs/{failed_once}").text
    assert '<title id="waterfall-title">How the run went</title>' in text
    assert '<desc id="waterfall-description">5 lines from' in text
    assert "Waits, attempts, steps and child runs" in text
