"""Celery's signals reach their receivers with the arguments that Celery gives."""

import threading
from collections import defaultdict

import pytest
from celery import signals
from celery.exceptions import TimeLimitExceeded

from cgk_tasks import send_job
from cgk_tasks.celery_app import create_app, follow_settings
from cgk_tasks.errors import TenantContextError
from tests.integration import signal_tasks as tasks
from tests.support.waiting import get, wait_state, wait_until

pytestmark = pytest.mark.usefixtures("acme")


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    path = tmp_path_factory.mktemp("signals") / "notes"
    path.touch()
    return path


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker, notes):
    return start_worker(["tests.integration.signal_tasks"], **{tasks.NOTES: str(notes), "CGK_MAX_DEATHS": "1"})


@pytest.fixture
def listen():
    """Connects receivers that note what they are given, for one test."""
    connected = []

    def start(name, receiver):
        signal = getattr(signals, name)
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield start
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def heard(worker):
    """The types of the events that the worker sends, by the ids of the runs they are about."""
    events = defaultdict(list)
    tasks.app.routing.current()  # it has its own settings by now; those of the module are read anew for another app
    app = create_app("hears")
    tasks.app.set_current()
    follow_settings(app)
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(
            connection, handlers={"*": lambda event: events[event.get("uuid")].append(event["type"])}
        )
        thread = threading.Thread(target=receiver.capture, daemon=True)
        thread.start()
        app.control.enable_events(destination=[worker.name], reply=True)
        wait_until(lambda: None in events, what="no heartbeat is heard")
        yield events
        receiver.should_stop = True
        thread.join()
    app.close()


def is_noted(notes, line):
    wait_until(lambda: line in notes.read_text().splitlines(), what=f"no line {line!r}")


def test_a_message_is_announced_when_a_worker_receives_it(notes):
    get(tasks.add.delay(1))
    is_noted(notes, "task_received signals.add")


def test_an_events_task_shows_its_fields_to_receivers(notes):
    tasks.app.send_task("signals.shipped", kwargs={"tenantId": "acme", "number": 7})
    is_noted(notes, "task_prerun signals.shipped [] {'number': 7}")


def test_a_running_task_that_is_revoked_is_announced_as_terminated(notes):
    result = tasks.wait.delay()
    wait_until(lambda: "task_prerun signals.wait [] {}" in notes.read_text())
    result.revoke(terminate=True)
    is_noted(notes, "task_revoked signals.wait terminated=True expired=False")


def test_a_waiting_task_that_is_revoked_is_announced_where_it_is_revoked(listen):
    seen = []
    listen("task_revoked", lambda sender, request, **known: seen.append((sender.name, request.id, known["terminated"])))
    result = tasks.add.apply_async((1,), countdown=600)
    result.revoke()
    assert seen == [("signals.add", result.id, False)]


def test_a_task_that_expires_is_announced(notes):
    tasks.add.apply_async((1,), expires=0.2, queue="nobody-serves-this")
    is_noted(notes, "task_revoked signals.add terminated=False expired=True")


def test_a_task_that_no_worker_knows_is_announced(notes):
    tasks.app.send_task("signals.nobody_knows", args=(1,))
    is_noted(notes, "task_unknown signals.nobody_knows KeyError acme")


@pytest.mark.parametrize("how", ["snoozed", "failing"])
def test_an_attempt_after_which_the_run_goes_on_is_reported_as_retried(heard, notes, how):
    run_id = send_job(tasks.Awaited(tenant_id="acme", how=how)).id
    wait_until(lambda: "task-retried" in heard[run_id] or "task-failed" in heard[run_id], what="nothing is reported")
    assert "task-failed" not in heard[run_id]


def test_a_run_that_a_limit_holds_is_reported_when_it_has_been_let_start(heard):
    runs = [send_job(tasks.Paced(tenant_id="acme")).id for _ in range(2)]
    wait_until(lambda: all("task-succeeded" in heard[run] for run in runs), what="nothing is reported")
    assert [heard[run].count("task-succeeded") for run in runs] == [1, 1]


def test_a_running_task_that_is_revoked_is_reported_as_revoked(heard):
    result = tasks.wait.delay()
    wait_state(result.id, "running")  # Celery reports it as started before it is claimed
    result.revoke(terminate=True)
    wait_until(lambda: {"task-revoked", "task-failed"} & set(heard[result.id]), what="nothing is reported")
    assert "task-failed" not in heard[result.id]


def test_the_hooks_and_signals_of_a_task_that_killed_its_process_are_called(notes):
    tasks.die.delay("why")
    is_noted(notes, "on_failure RunLostError ['why']")
    is_noted(notes, "task_failure signals.die ['why'] {}")
    is_noted(notes, "after_return FAILURE")
    assert notes.read_text().count("task_failure signals.die ") == 1


def test_the_hooks_and_signals_of_a_task_that_its_hard_time_limit_killed_are_called_once(notes):
    with pytest.raises(TimeLimitExceeded):
        get(tasks.overrun.delay("slow"))
    is_noted(notes, "task_failure signals.overrun ['slow'] {}")
    is_noted(notes, "on_failure TimeLimitExceeded ['slow']")
    written = notes.read_text().splitlines()
    lines = [line for line in written if line.startswith(("on_failure TimeLimit", "task_failure signals.overrun"))]
    assert sorted(lines) == ["on_failure TimeLimitExceeded ['slow']", "task_failure signals.overrun ['slow'] {}"]


def test_receivers_see_the_message_that_celery_would_publish(listen):
    seen = {}
    listen("before_task_publish", lambda sender, **arguments: seen.update(arguments, sender=sender))
    result = tasks.add.apply_async((1,), {"y": 2}, queue="elsewhere", countdown=600)
    assert seen["sender"] == "signals.add"
    assert seen["body"][:2] == ([1], {"y": 2})
    assert seen["routing_key"] == "elsewhere"
    known = {"id": result.id, "task": "signals.add", "tenant": "acme", "argsrepr": "[1]", "retries": 0}
    assert known.items() <= seen["headers"].items()
    assert seen["headers"]["eta"]
    assert seen["properties"]["correlation_id"] == result.id


def test_headers_that_a_receiver_adds_travel_with_the_run(listen):
    listen("before_task_publish", lambda headers, **_: headers.update(trace="t-1"))
    assert get(tasks.headers.delay()) == ["t-1", "t-1"]


def test_arguments_that_a_receiver_changes_are_those_of_the_run(listen):
    listen("before_task_publish", lambda body, **_: body[1].update(y=40))
    assert get(tasks.add.delay(2)) == 42


def test_a_receiver_that_raises_does_not_prevent_the_send(listen):
    def fails(**_):
        raise RuntimeError("a receiver's own fault")

    listen("before_task_publish", fails)
    assert get(tasks.add.delay(2)) == 3


def test_receivers_are_told_once_the_run_is_accepted(listen):
    seen = []
    listen("after_task_publish", lambda sender, headers, **_: seen.append(("after", sender, headers["id"])))
    listen("task_sent", lambda sender, task_id, args, **_: seen.append(("sent", sender, task_id, args)))
    result = tasks.add.delay(1)
    assert seen == [("after", "signals.add", result.id), ("sent", "signals.add", result.id, [1])]


def test_receivers_are_not_told_of_a_run_that_is_refused(listen):
    seen = []
    listen("after_task_publish", lambda **_: seen.append(1))
    with pytest.raises(TenantContextError):
        tasks.add.apply_async((1,), headers={"tenant": "globex"})
    assert not seen
