"""How runs of a real worker went, as the page of each shows it."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.dashboard.data.run_record import run_record
from tests.integration.child_jobs import Nest
from tests.integration.workflow_jobs import AskedTrip
from tests.support.share_jobs import Nap
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.share_jobs", "tests.integration.child_jobs"])


@pytest.fixture(scope="module")
def failed_once(worker):
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


def test_a_workflow_with_a_child_run():
    run = send_job(Nest(tenant_id="acme", depth=1)).id
    status = wait_closed(run, 60)
    entries = run_record(run).waterfall.entries
    assert [(one.what, one.kind, one.state) for one in entries] == [
        ("In queue", "queue", "done"), ("below", "invoke", "done"), ("nest", "child run", "completed"),
        ("Last leg", "leg", "done"),
    ]  # fmt: skip
    _, waited, child, leg = entries
    assert status.created_at <= waited.begins <= child.ends <= waited.ends <= leg.ends
    assert child.begins <= child.child.started_at <= child.ends
    assert leg.ends == status.closed_at


def test_a_workflow_that_waits_says_for_what_and_since_when():
    run = send_job(AskedTrip(tenant_id="acme")).id
    wait_until(lambda: run_record(run).state == "scheduled", 60)
    entry = run_record(run).waterfall.entries[-1]
    assert (entry.kind, entry.state, entry.ends) == ("signal", "waiting", None)
    assert entry.detail == f"Waits for answer since {entry.begins:%Y-%m-%d %H:%M:%S} UTC."
