"""Why an open run does not go on: one test for each gate."""

import json
import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import cancel_job, schedule_job, send_job
from cgk_tasks.config import use_settings
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.monitoring.why import why
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support import content
from tests.support.jobs import Behave, OneAtATime
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
        content.change(connection, run_id, **columns)


@pytest.fixture
def listening(database):
    """A worker on record that listens to this module's queue."""
    worker = str(uuid.uuid4())
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, heartbeat_at) VALUES (%s, 'w@here', 1, %s, "
            "now() + interval '1 hour')",
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
    assert codes(run) == ["not_dispatched"]


def test_a_retrying_run_tells_its_error_and_the_next_attempt(run, listening):
    error = '[{"attempt": 1, "code": "HTTP_502", "message": "away"}]'
    change(run, state="retrying", attempt=1, errors=error, run_at=datetime.now(UTC) + timedelta(minutes=5))
    (gate,) = why(run).gates
    assert gate.text.startswith("Attempt 1 failed with HTTP_502; the next one is due ")


def put_off(run, code, reason):
    due = datetime.now(UTC) + timedelta(minutes=5)
    change(run, state="retrying", deferral=json.dumps({"code": code, "reason": reason}), run_at=due)
    return due


def test_a_run_that_its_job_put_off_tells_the_jobs_reason(run, listening):
    due = put_off(run, "RETRY_LATER", "the bank opens at nine")
    (gate,) = why(run).gates
    assert (gate.code, gate.until, gate.hint) == ("waits_for_retry", due, "")
    assert gate.text.startswith("Its job put it off (the bank opens at nine); it tries again ")
    assert gate.text.endswith("(in 5 minutes), and no attempt is used.")


def test_a_run_that_a_limit_put_off_names_the_limit_and_its_number(run, listening):
    due = put_off(run, "LIMIT_REACHED", "rate limit 'stripe' of tenant acme: 25 in 1 s")
    (gate,) = why(run).gates
    assert (gate.code, gate.until) == ("limit", due)
    assert gate.text.startswith("It is over a limit (rate limit 'stripe' of tenant acme: 25 in 1 s); it tries again ")
    assert gate.hint.startswith("It goes on by itself. To let more through, raise the limit")


def test_a_run_that_was_put_off_after_an_attempt_failed_tells_what_came_last(run, listening):
    change(run, attempt=1, errors='[{"attempt": 1, "code": "HTTP_502", "message": "away"}]')
    put_off(run, "RETRY_LATER", "")
    assert why(run).gates[0].text.startswith("Its job put it off; ")


def test_a_reason_that_quotes_personal_data_is_told_without_it(database, listening):
    run = send_job("customer.created", {"tenantId": "acme", "customerId": "c-1", "email": "ada@example.org"}).id
    put_off(run, "RETRY_LATER", "no mail to ada@example.org today")
    (gate,) = why(run).gates
    cancel_job(run)
    assert "ada@example.org" not in gate.text
    assert "today" in gate.text


def test_a_retrying_run_of_which_nothing_is_told_says_when_it_goes_on(run, listening):
    change(run, state="retrying", run_at=datetime.now(UTC) + timedelta(minutes=5))
    (gate,) = why(run).gates
    assert gate.text.startswith("It is tried again ")
    assert gate.text.endswith("(in 5 minutes).")


def test_a_retrying_run_that_is_due_waits_for_the_dispatcher(run, listening):
    put_off(run, "RETRY_LATER", "")
    change(run, run_at=datetime.now(UTC) - timedelta(seconds=1))
    assert codes(run) == ["not_dispatched"]


@pytest.fixture
def paused(database):
    """This module's queue."""
    name = os.environ["CGK_DEFAULT_QUEUE"]
    pause_queue(name, by="ops", reason="the mail server is down")
    yield name
    resume_queue(name)


@pytest.mark.parametrize("state", ["scheduled", "pending", "held", "retrying"])
def test_a_run_in_a_paused_queue_tells_by_whom_since_when_and_why(run, listening, paused, state):
    change(run, state=state)
    gate = why(run).gates[0]
    assert gate.code == "queue_paused"
    assert gate.text.startswith(f"Its queue {paused!r} is paused by ops since ")
    assert gate.text.endswith(": the mail server is down.")
    assert gate.hint == f"Resume it: cgk-tasks queues resume {paused}"


def test_a_queue_that_nobody_in_particular_paused_is_told_so(run, listening, paused):
    resume_queue(paused)
    pause_queue(paused)
    assert f"{paused!r} is paused since " in why(run).gates[0].text


def test_a_queue_whose_name_has_spaces_is_quoted_in_the_hint(run, listening):
    change(run, queue="slow mail")
    pause_queue("slow mail")
    try:
        assert why(run).gates[0].hint == "Resume it: cgk-tasks queues resume 'slow mail'"
    finally:
        resume_queue("slow mail")


def test_a_running_run_does_not_mind_a_pause(run, listening, paused):
    change(run, state="running", attempt=1, worker_id=listening, worker_pid=4711, started_at=datetime.now(UTC))
    assert codes(run) == ["running"]


def test_a_held_run_that_nothing_holds_any_more_is_being_released(run, listening):
    change(run, state="held")
    (gate,) = why(run).gates
    assert (gate.code, gate.text) == (
        "being_released", "Nothing holds it any more; the dispatcher releases it within a second or two.",
    )  # fmt: skip


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
        name = fetch(connection, "SELECT name FROM cgk.workers WHERE id = %(id)s", {"id": listening})[0]["name"]
    gate = next(gate for gate in why(run).gates if gate.code == "after_a_crash")
    assert gate.text.endswith(f"what these workers run: {name}.")


def test_a_run_of_a_tenant_that_is_gone_says_how_to_register_it(run, listening):
    change(run, tenant_id="umbrella")
    gate = why(run).gates[0]
    assert (gate.code, gate.text) == ("unknown_tenant", "There is no tenant 'umbrella', so the run will fail.")
    assert gate.hint == "Register it: cgk-tasks tenants add umbrella"


def test_a_run_that_is_being_cancelled_says_so_first(run, listening):
    change(
        run, state="running", attempt=1, worker_id=listening, worker_pid=1, started_at=datetime.now(UTC),
        cancel_requested_at=datetime.now(UTC),
    )  # fmt: skip
    gates = why(run).gates
    assert [gate.code for gate in gates] == ["being_cancelled", "running"]
    assert "its worker interrupts the job within a second or two" in gates[0].text


def test_what_a_missing_listener_needs_is_in_the_hint(run, listening):
    change(run, queue="emails")
    (gate, _place) = why(run).gates
    assert (gate.code, gate.text) == (
        "no_listener", "No worker listens to its queue 'emails' (1 running worker listens to others).",
    )  # fmt: skip
    assert gate.hint == "Start one: celery -A cgk_tasks worker -Q emails, or add it to CGK_QUEUES of the workers"


def test_a_run_whose_workers_are_all_drained_says_so_and_how_to_let_them_work(run, listening):
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET drain_wanted_at = now() WHERE id = %s", [listening])
    gate = why(run).gates[0]
    assert (gate.code, "and is drained: no run of it starts" in gate.text) == ("workers_drained", True)
    assert "cgk-tasks workers resume" in gate.hint


def executes(worker, names):
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET executes = %s WHERE id = %s", [names, worker])


def test_a_run_that_no_worker_of_its_queue_has_a_job_for_names_the_event_the_queue_and_the_setting(run, listening):
    executes(listening, ["order.cancelled"])
    gate = why(run).gates[0]
    assert gate.code == "no_job"
    assert "has a job for order.created" in gate.text
    assert repr(os.environ["CGK_DEFAULT_QUEUE"]) in gate.text
    assert "CGK_JOB_MODULES" in gate.hint


def test_a_run_that_is_held_for_another_worker_says_so(run, listening):
    executes(listening, ["order.cancelled"])
    other = str(uuid.uuid4())
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, executes, heartbeat_at) "
            "SELECT %s, 'other@here', 1, queues, '{order.created}', heartbeat_at FROM cgk.workers WHERE id = %s",
            [other, listening],
        )
        connection.execute("INSERT INTO cgk.presence VALUES (%s)", [other])
    change(run, state="held", handed_over_at=None)
    (gate,) = why(run).gates
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE id = %s", [other])
        connection.execute("DELETE FROM cgk.presence WHERE worker_id = %s", [other])
    assert gate.code == "waits_for_worker"
    assert "1 of the 2 workers" in gate.text


def test_a_run_that_was_handed_over_again_says_how_often(run, listening):
    change(run, hand_overs=3)
    assert why(run).gates[0].text.endswith("It was dispatched 2 times more, because it seemed lost.")


def close(run_id, state, **columns):
    """As if its worker had."""
    names = "".join(f", {name}" for name in columns)
    with autocommit() as connection:
        connection.execute(
            f"WITH gone AS (DELETE FROM cgk.runs WHERE id = %s RETURNING *) "
            "INSERT INTO cgk.run_history "
            f"(id, tenant_id, event, state, queue, priority, sealed_payload, run_at{names}) "
            f"SELECT id, tenant_id, event, %s, queue, priority, sealed_payload, run_at{', %s' * len(columns)} "
            "FROM gone",
            [run_id, state, *columns.values()],
        )


def closed_gate(run_id):
    (gate,) = why(run_id).gates
    return gate


def test_a_closed_run_is_held_by_nothing(run):
    cancel_job(run)
    gate = closed_gate(run)
    assert (gate.code, gate.hint) == ("closed", "")
    assert gate.text.startswith("It closed as cancelled at ")


def test_a_failed_run_says_where_its_errors_are(run):
    close(run, "failed", error_code="HTTP_502")
    gate = closed_gate(run)
    assert gate.text.startswith("It closed as failed at ")
    assert gate.hint == f"Its errors: cgk-tasks runs show {run}"


def test_an_unhandled_run_says_how_to_get_it_handled(run):
    close(run, "unhandled", error_code="NO_JOB")
    assert closed_gate(run).hint == (
        f"No worker of queue {os.environ['CGK_DEFAULT_QUEUE']} had a job for order.created. Define one, "
        "name its module in CGK_JOB_MODULES of those workers, start them anew, "
        f"and: cgk-tasks runs retry {run}"
    )


def test_an_unknown_run_is_an_error(database):
    for run_id in (str(uuid.uuid4()), "nonsense"):
        with pytest.raises(UnknownRunError):
            why(run_id)


def test_a_limit_of_a_real_job_is_named_with_its_number(database, tmp_path):
    with running_worker(["tests.support.jobs"]):
        runs = [send_job(OneAtATime(tenant_id="acme", path=str(tmp_path))).id for _ in range(6)]

        def limited():
            return [gate for run_id in runs for gate in why(run_id).gates if gate.code == "limit"]

        gate = wait_until(limited)[0]
        for run_id in runs:
            wait_closed(run_id)
    assert gate.text.startswith("It is over a limit (test-one/at_once/tenant: 1 at once); ")
    assert "before it." in gate.text


def test_with_a_real_worker_the_run_names_it(database, tmp_path):
    path = tmp_path / "go"
    with running_worker(["tests.support.jobs"]) as worker:
        run_id = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(path))).id
        wait_state(run_id, "running")
        wait_until(lambda: codes(run_id) == ["running"])
        assert worker.name in why(run_id).gates[0].text
        path.touch()
        wait_closed(run_id)
