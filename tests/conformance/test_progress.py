"""What a job tells of its run is seen while it runs, and stays with it."""

import pytest

from cgk_tasks import Progress
from tests.conformance.jobs import Act
from tests.support.waiting import wait_until


@pytest.fixture
def send(provider_client, engine):
    def one(action, argument=""):
        return provider_client.send(Act(tenant_id="acme", action=action, argument=argument)).id

    return one


def shown(progress):
    return (progress.done, progress.total, progress.message)


def test_progress_and_metadata_are_seen_while_the_job_runs_and_after_its_end(provider_client, send, wait_for, tmp_path):
    release = tmp_path / "release"
    run = send("tell_and_wait", str(release))
    try:
        status = wait_until(lambda: (found := provider_client.get_run_status(run)).progress and found)
        assert (status.state, shown(status.progress), status.progress.share) == ("running", (1, 4, "page 1"), 0.25)
        assert status.progress.at >= status.started_at
        assert status.metadata == {"file": {"name": "orders.csv", "rows": [1, 2]}}
    finally:
        release.touch()
    ended = wait_for(run)
    assert (ended.state, shown(ended.progress), ended.metadata) == ("completed", (4, 4, "all pages"), {"file": None})


def test_a_later_attempt_finds_what_an_earlier_one_has_told(send, wait_for):
    ended = wait_for(send("tell_and_fail_once"))
    assert ended.result == ["first"]
    assert ended.metadata == {"first": True, "second": ["first"]}
    assert shown(ended.progress) == (3, 10, "")


def test_a_run_that_tells_nothing_has_none(send, wait_for):
    ended = wait_for(send("echo", "x"))
    assert (ended.progress, ended.metadata) == (None, {})


@pytest.mark.parametrize("amount", ["-1", "nan", "inf"])
def test_what_is_no_amount_is_the_jobs_error(send, wait_for, amount):
    ended = wait_for(send("tell", amount))
    assert (ended.state, ended.error_code, ended.progress) == ("failed", "INVALID_PROGRESS", None)


def test_a_progress_without_a_total_has_no_share():
    assert Progress(3).share is None


@pytest.mark.parametrize(("done", "total", "share"), [(0, 4, 0), (1, 4, 0.25), (9, 4, 1), (0, 0, 1)])
def test_the_share_is_between_nothing_and_all(done, total, share):
    assert Progress(done, total).share == share
