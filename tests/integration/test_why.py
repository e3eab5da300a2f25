"""Why an open run does not go on: one test for each gate."""

import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import cancel_job, schedule_job, send_job
from cgk_tasks.config import use_settings
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.postgres import autocommit
from cgk_tasks.runs.why import why
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_state, wait_until
from tests.support.workers import running_worker

ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}


def codes(run_id):
    return [gate.code for gate in why(run_id).gates]


@pytest.fixture
def run(database):
    """A run that nobody claims."""
    run_id = send_job("order.created", ORDER).id
    yield run_id
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [run_id])


def change(run_id, **columns):
    with autocommit() as connection:
        for name, value in columns.items():
            connection.execute(f"UPDATE cgk.runs SET {name} = %s WHERE id = %s", [value, run_id])


@pytest.fixture
def listening(database):
    """A worker on record that listens to this module's queue."""
    worker = str(uuid.uuid4())
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, heartbeat_at) VALUES (%s, 'w@here', 1, %s, now() + interval '1 hour')",
            [worker, [os.environ["CGK_DEFAULT_QUEUE"]]],
        )
        connection.execute("INSERT INTO cgk.presence VALUES (%s)", [worker])
    yield worker
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE id = %s", [worker])
        connection.execute("DELETE FROM cgk.presence WHERE worker_id = %s", [worker])


def test_a_scheduled_run_is_not_due_and_says_when(database):
    due = datetime.now(UTC) + timedelta(hours=3)
    run_id = schedule_job("order.created", ORDER, run_at=due).id
    (gate,) = why(run_id).gates
    assert (gate.code, gate.until) == ("not_due", due)
    assert "(in 3 hours)" in gate.text
    cancel_job(run_id)


def test_a_run_of_a_suspended_tenant_names_who_suspended_it(database):
    suspend_tenant("globex", by="billing")
    try:
        run_id = send_job("order.created", {**ORDER, "tenantId": "globex"}).id
        (gate,) = why(run_id).gates
    finally:
        resume_tenant("globex")
    assert gate.code == "tenant_suspended"
    assert "suspended by billing since" in gate.text
    assert gate.hint == "Resume it: cgk-tasks tenants resume globex"
    cancel_job(run_id)


def test_without_a_worker_on_its_queue_a_run_says_so(run):
    assert codes(run)[0] in {"no_worker", "no_listener"}


def test_a_handed_over_run_counts_those_before_it(run, listening):
    behind = send_job("order.created", ORDER).id
    urgent = send_job("order.created", ORDER, priority=9).id
    assert "behind 2 runs" in why(behind).gates[0].text
    assert "at the head" in why(urgent).gates[0].text
    cancel_job(behind)
    cancel_job(urgent)


def test_a_broker_that_is_down_is_named(run, listening, monkeypatch):
    monkeypatch.setenv("CGK_BROKER_URL", "redis://127.0.0.1:1/0")
    use_settings(None)
    try:
        assert codes(run) == ["broker_down", "in_queue"]
    finally:
        monkeypatch.undo()
        use_settings(None)


def test_a_run_that_was_never_handed_over_waits_for_the_dispatcher(run, listening):
    change(run, handed_over_at=None)
    assert codes(run) == ["not_handed_over"]


def test_a_retrying_run_tells_its_error_and_the_next_attempt(run, listening):
    error = '[{"attempt": 1, "code": "HTTP_502", "message": "away"}]'
    change(run, state="retrying", attempt=1, errors=error, run_at=datetime.now(UTC) + timedelta(minutes=5))
    (gate,) = why(run).gates
    assert gate.text.startswith("Attempt 1 failed with HTTP_502; the next one is due ")


def test_a_run_that_its_job_put_off_says_that_no_attempt_was_used(run, listening):
    change(run, state="retrying", run_at=datetime.now(UTC) + timedelta(minutes=5))
    assert "without using an attempt" in why(run).gates[0].text


def test_a_running_run_names_its_worker_and_process(run, listening):
    change(run, state="running", attempt=1, worker_id=listening, worker_pid=4711, started_at=datetime.now(UTC))
    (gate,) = why(run).gates
    assert gate.code == "running"
    assert gate.text.endswith("on w@here in process 4711.")


def test_a_running_run_whose_worker_is_gone_says_who_takes_it_back(run):
    change(run, state="running", attempt=1, worker_id=str(uuid.uuid4()), started_at=datetime.now(UTC))
    assert codes(run)[0] == "worker_silent"


def test_a_parent_waits_for_its_children(run):
    change(run, state="running", attempt=1, children_open=2)
    assert why(run).gates[0].text == "It waits for 2 child runs, one for each job."


def test_after_a_crash_of_postgresql_the_missing_worker_is_named(run, listening):
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.presence WHERE worker_id = %s", [listening])
    assert "after_a_crash" in codes(run)


def test_a_closed_run_is_held_by_nothing(run):
    cancel_job(run)
    assert codes(run) == ["closed"]


def test_an_unknown_run_is_an_error(database):
    for run_id in (str(uuid.uuid4()), "nonsense"):
        with pytest.raises(UnknownRunError):
            why(run_id)


def test_with_a_real_worker_the_run_names_it(database, tmp_path):
    path = tmp_path / "go"
    with running_worker(["tests.support.jobs"]) as worker:
        run_id = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(path))).id
        wait_state(run_id, "running")
        wait_until(lambda: codes(run_id) == ["running"])
        assert worker.name in why(run_id).gates[0].text
        path.touch()
        wait_closed(run_id)
