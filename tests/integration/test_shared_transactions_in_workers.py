"""Jobs with transaction="shared" in real workers: each run's rows are there once, whatever happens amid them."""

from collections import Counter

import pytest

from cgk_tasks import SendItem, SendOptions, send_jobs
from cgk_tasks.broker import packets
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.shared_jobs import Share
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.slow  # they kill workers' processes


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.shared_jobs"], concurrency=2, CGK_PACKET_BUDGET_SECONDS="60")


@pytest.fixture(autouse=True)
def in_packets_of_ten(monkeypatch):
    monkeypatch.setattr(packets, "packet_length", lambda _event, waiting: min(10, waiting))


def send(*actions, tenant="acme", **options):
    items = [SendItem(Share(tenant_id=tenant, action=action), options=SendOptions(**options)) for action in actions]
    return [handle.id for handle in send_jobs(items)]


def rows_of(runs):
    with autocommit() as connection:
        found = fetch(connection, "SELECT run_id FROM tenant_acme.orders WHERE run_id = ANY(%(ids)s)", {"ids": runs})
    return Counter(row["run_id"] for row in found)


def test_each_run_writes_once():
    runs = send(*["write"] * 40)
    assert {wait_closed(run).state for run in runs} == {"completed"}
    assert rows_of(runs) == Counter(runs)


def test_runs_that_fail_have_written_nothing_and_the_others_once():
    actions = ["write", "write_and_fail"] * 20
    runs = send(*actions, max_attempts=1)
    assert [wait_closed(run).state for run in runs] == ["completed", "failed"] * 20
    assert rows_of(runs) == Counter(runs[::2])


def test_a_process_that_is_killed_amid_them_costs_none_of_them_a_row_or_another_one(tmp_path):
    killing = [f"die_once:{tmp_path / str(number)}" for number in range(3)]
    runs = send(*["write"] * 7, killing[0], *["write"] * 12, killing[1], *["write"] * 8, killing[2])
    assert {wait_closed(run).state for run in runs} == {"completed"}
    assert rows_of(runs) == Counter(runs)


def test_objects_that_cannot_be_written_cost_no_other_run_an_attempt():
    runs = send("write", "write", "collide", "write", max_attempts=1)
    ends = [wait_closed(run) for run in runs]
    assert [(end.state, end.attempt) for end in ends] == [
        ("completed", 1), ("completed", 1), ("failed", 1), ("completed", 1)
    ]  # fmt: skip
    assert rows_of(runs) == Counter([*runs[:2], runs[3]])


@pytest.mark.parametrize("action", ["checkpoint", "step"])
def test_what_would_commit_in_between_is_refused(action):
    runs = send("write", action, "write", max_attempts=1)
    ends = [wait_closed(run) for run in runs]
    assert [end.state for end in ends] == ["completed", "failed", "completed"]
    assert 'transaction="shared"' in ends[1].error["message"]


def test_a_send_in_the_jobs_transaction_goes_out():
    (run,) = send("send")
    child = wait_closed(run).result
    assert wait_closed(child).state == "completed"
