"""Celery's states and results of durable runs: what a task says of itself, what it sent, how its callers wait."""

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from celery import chord, group
from celery.exceptions import TaskRevokedError

from cgk_tasks import app
from cgk_tasks.tenancy import platform_context, tenant_context
from tests.integration import canvas_tasks as tasks
from tests.integration.canvas_tasks import NotEnoughMoney, add, collect
from tests.support.waiting import get, wait_until

pytestmark = pytest.mark.usefixtures("acme")


@pytest.fixture
def gate(tmp_path):
    """The file that lets a waiting task end."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def test_a_state_of_the_tasks_own_is_seen_with_its_meta_while_it_runs(gate):
    result = tasks.say_and_wait.delay(str(gate), "PROGRESS", {"done": 3, "of": 10})
    wait_until(lambda: result.state == "PROGRESS", 20, "the task's own state")
    assert result.info == {"done": 3, "of": 10}


@pytest.mark.slow
def test_a_state_of_the_tasks_own_is_seen_by_another_process(gate):
    result = tasks.say_and_wait.delay(str(gate), "PROGRESS", {"done": 3})
    wait_until(lambda: result.state == "PROGRESS", 20, "the task's own state")
    program = f"import json; from cgk_tasks import app; r = app.AsyncResult({result.id!r}); print(json.dumps(r.info))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert json.loads(printed) == {"done": 3}


def test_a_state_of_the_tasks_own_is_no_other_tenants_business(gate):
    result = tasks.say_and_wait.delay(str(gate), "PROGRESS", {"done": 3})
    wait_until(lambda: result.state == "PROGRESS", 20, "the task's own state")
    with platform_context(), tenant_context("globex"):
        assert (result.state, result.info) == ("PENDING", None)


def test_the_end_takes_the_place_of_a_state_of_the_tasks_own(gate):
    gate.touch()
    result = tasks.say_and_wait.delay(str(gate), "PROGRESS", {})
    assert (get(result), result.state) == ("done", "SUCCESS")


def test_a_running_task_is_started_only_if_it_tracks_that(gate):
    result = tasks.tracked_wait.delay(str(gate))
    wait_until(lambda: result.state == "STARTED", 20, "the tracked task started")
    assert result.info["pid"]


def test_an_expired_task_is_revoked():
    result = add.apply_async((1, 1), countdown=600, expires=0.01)
    with pytest.raises(TaskRevokedError):
        get(result)
    assert result.state == "REVOKED"


def test_children_of_a_task_are_what_it_sent():
    result = tasks.sends_two.delay()
    sent = get(result)
    group_result, single = result.children
    assert single.id == sent
    assert get(group_result, disable_sync_subtasks=False) == [2, 4]


def test_children_of_a_task_are_what_follows_it():
    last = (add.s(1, 2) | add.s(3)).delay()
    assert get(last) == 6
    assert last.parent.children == [last]
    assert last.parent.get_leaf() == 6


def test_collect_follows_the_children():
    last = (add.s(1, 2) | add.s(3)).delay()
    get(last)
    first = last.parent
    assert [value for _, value in first.collect(timeout=20)] == [3, 6]


def test_join_native_gives_the_results_in_order():
    assert group(add.s(number, 0) for number in range(5))().join_native(timeout=20) == [0, 1, 2, 3, 4]


def test_iter_native_gives_each_end_once():
    result = group(add.s(number, 0) for number in range(3))()
    found = {task_id: meta["result"] for task_id, meta in result.iter_native(timeout=20)}
    assert found == {one.id: number for number, one in enumerate(result.results)}


def test_on_message_hears_of_a_state_of_the_tasks_own(gate):
    result, heard = tasks.say_and_wait.delay(str(gate), "PROGRESS", {"done": 1}), []

    def hear(meta):
        heard.append(meta["status"])
        gate.touch()

    get(result, on_message=hear)
    assert heard == ["PROGRESS", "SUCCESS"]


def test_a_forgotten_result_is_pending():
    result = add.delay(1, 1)
    get(result)
    result.forget()
    assert result.state == "PENDING"


def test_a_chord_raises_the_exception_of_its_header():
    with pytest.raises(NotEnoughMoney):
        get(chord([add.s(1, 1), tasks.fail.s()], collect.s()).delay())


@pytest.fixture
def extended():
    app.conf.result_extended = True
    yield
    app.conf.result_extended = False


def test_an_extended_result_names_arguments_queue_and_retries(extended):
    result = add.delay(1, y=2)
    get(result)
    seen = app.AsyncResult(result.id)
    assert (seen.name, seen.args, seen.kwargs, seen.retries) == (add.name, [1], {"y": 2}, 0)
    assert seen.queue


def test_a_request_says_where_it_runs_and_what_it_was_sent_with(worker):
    expires = datetime.now(UTC) + timedelta(hours=1)
    seen = get(tasks.attributes_of_request.apply_async(countdown=0.2, expires=expires))
    assert seen["hostname"] == worker.name
    assert datetime.fromisoformat(seen["expires"]) == expires
    assert seen["eta"]
    assert (seen["argsrepr"], seen["kwargsrepr"]) == ("()", "{}")
    assert seen["properties"]["correlation_id"]


def test_a_request_says_which_process_put_it_into_the_broker():
    seen = get(tasks.attributes_of_request.delay())
    assert seen["origin"] == f"gen{os.getpid()}@{socket.gethostname()}"


def test_a_late_request_says_that_a_worker_put_it_into_the_broker(worker):
    seen = get(tasks.attributes_of_request.apply_async(countdown=0.2))
    assert seen["origin"] == f"gen{worker.pid}@{socket.gethostname()}"
