"""A run goes to a worker of its queue that has a job for it, or is unhandled; senders hear of queues without one."""

import json

import pytest

from cgk_tasks import send_job, send_jobs
from cgk_tasks.cli.doctor import work
from cgk_tasks.config import get_settings
from cgk_tasks.flow.listeners import LISTENERS
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import tenant_context
from tests.support.late_tasks import Late, late_task
from tests.support.waiting import wait_closed

ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}
NEW_QUEUE = "queue-of-two"


@pytest.fixture(scope="module")
def worker(start_worker):
    """It has no module of the application."""
    return start_worker([])


def late(**fields):
    return Late(tenant_id="acme", **fields)


def send_task():
    with tenant_context("acme"):
        return run_id_of(late_task.delay(1).id)


SENDS = {
    "an event that the worker does not know": lambda: send_job(late()).id,
    "an event of the catalog": lambda: send_job("order.created", ORDER).id,
    "a task": send_task,
}


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_what_no_worker_of_the_queue_knows_is_unhandled_with_one_line_in_the_log(worker, send):
    before = len(worker.log)
    run = wait_closed(send())
    lines = [
        json.loads(line) for line in worker.log[before:].splitlines() if run.id in line and "run_unhandled" in line
    ]
    (line,) = lines
    assert (run.state, line["queue"]) == ("unhandled", get_settings().default_queue)
    assert "CGK_JOB_MODULES" in line["hint"]
    assert "Traceback" not in worker.log[before:]
    (gate,) = why(run.id).gates
    assert run.event in gate.hint
    assert "CGK_JOB_MODULES of those workers" in gate.hint
    assert f"queue {run.queue}" in gate.hint


def test_many_at_once_are_unhandled_too(worker):
    runs = send_jobs([late(number=number) for number in range(40)])
    assert {wait_closed(run.id).state for run in runs} == {"unhandled"}


def test_doctor_names_the_event_the_queue_and_the_setting(worker):
    wait_closed(send_job(late()).id)
    found = [one for one in work.check(get_settings()) if one.check == "events" and "test.late" in one.message]
    (finding,) = found
    assert (finding.level, get_settings().default_queue in finding.message) == ("WARN", True)
    assert "CGK_JOB_MODULES" in finding.advice


@pytest.fixture(scope="module")
def two_workers(start_worker):
    """Workers of one queue: an old one, and one with the module that a deployment brings."""
    old = start_worker([], CGK_DEFAULT_QUEUE=NEW_QUEUE, concurrency=1)
    start_worker(["tests.support.late_tasks"], CGK_DEFAULT_QUEUE=NEW_QUEUE, concurrency=1)
    return old


@pytest.mark.slow
def test_every_run_goes_to_the_worker_of_the_queue_that_knows_it(two_workers):
    runs = [send_job(late(number=number), queue=NEW_QUEUE).id for number in range(10)]
    orders = [send_job("order.created", ORDER, queue=NEW_QUEUE).id for _ in range(3)]
    with tenant_context("acme"):
        tasks = [run_id_of(late_task.apply_async((number,), queue=NEW_QUEUE).id) for number in range(3)]
    assert [wait_closed(run, 60).result for run in runs] == list(range(10))
    assert [wait_closed(run, 60).result for run in orders] == ["o-1"] * 3
    assert [wait_closed(run, 60).result for run in tasks] == [0, 1, 2]
    assert {wait_closed(run).attempt for run in runs} == {1}
    assert two_workers.log.count("run_unhandled") == 0
    assert two_workers.log.count("run_held_for_another_worker") <= 3  # once a minute for each kind


@pytest.fixture
def forgetful():
    """The sender knows nothing yet of who listens where."""
    current_runtime().drop(LISTENERS)
    yield
    current_runtime().drop(LISTENERS)


def test_a_queue_without_a_worker_is_told_once_a_minute(worker, forgetful, caplog):
    runs = [send_job(late(), queue="nobody-here").id for _ in range(3)]
    send_job(late(), queue="nobody-there", delay=60)
    send_job(late())
    told = [record.getMessage() for record in caplog.records if "No living worker listens" in record.getMessage()]
    assert [("nobody-here" in line, "nobody-there" in line) for line in told] == [(True, False), (False, True)]
    assert "-Q nobody-here" in told[0]
    assert get_settings().default_queue in told[0]
    assert why(runs[0]).gates[0].code == "no_listener"


def test_a_send_asks_for_the_listeners_every_some_seconds_only(worker, forgetful):
    asked = []

    def note(statement, _seconds, _error):
        asked.append(statement.label)

    door.observe(note)
    try:
        for _ in range(50):
            send_job(late())
    finally:
        door.forget_observer(note)
    assert asked.count("queues.served") == 1


def test_while_postgresql_does_not_say_who_listens_nobody_is_told_anything(worker, forgetful, caplog):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.workers RENAME TO workers_elsewhere")
        try:
            for _ in range(2):
                send_job(late(), queue="nobody-asked")
        finally:
            connection.execute("ALTER TABLE cgk.workers_elsewhere RENAME TO workers")
    assert [record for record in caplog.records if "No living worker" in record.getMessage()] == []
