"""How a sender that waits learns of its run's end: by a call of the worker's, and without one by looking."""

import asyncio
import itertools
import threading
import time
from functools import partial

import psycopg
import pytest

import cgk_tasks
from cgk_tasks import atrigger_and_wait, get_job_client, get_run, send_job, tenant_context, trigger_and_wait
from cgk_tasks.broker import answers
from cgk_tasks.broker.answers import ANSWERS, Answer, call_back
from cgk_tasks.broker.envelope import ANSWER_HEADER, answer_to
from cgk_tasks.celery_tasks import waiting as celery_waiting
from cgk_tasks.client import waiting
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.runs.ended import just_ended
from cgk_tasks.runs.models import RunHandle
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql import door
from tests.support.code_steps import act_at, stop
from tests.support.jobs import Behave
from tests.support.waiting import wait_until

PATIENCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    from cgk_tasks.celery_app import register_application_events

    register_application_events()
    return start_worker(["tests.support.jobs"], concurrency=2)


@pytest.fixture
def looks_late(monkeypatch):
    """Whoever waits looks for itself once a minute alone."""
    wait_until(lambda: (listener := ANSWERS.current()) is not None and listener._is_listening.is_set())
    monkeypatch.setattr(waiting, "_FIRST_LOOK_BESIDE_SECONDS", PATIENCE)
    monkeypatch.setattr(waiting, "_SLOWEST_LOOK_BESIDE_SECONDS", PATIENCE)


def echo(text, tenant="acme"):
    return Behave(tenant_id=tenant, action="echo", argument=text)


def test_the_worker_calls_when_the_end_is_on_record(looks_late):
    assert trigger_and_wait(echo("1"), timeout=PATIENCE / 2).unwrap() == "1"


def test_it_calls_for_a_run_that_fails_too(looks_late):
    failed = trigger_and_wait(Behave(tenant_id="acme", action="fail_permanently"), timeout=PATIENCE / 2)
    assert failed.code == "ACCOUNT_NOT_FOUND"


@pytest.fixture
def looks():
    """The statements by which runs are looked for, as this process executes them."""
    found = []

    def note(statement, _seconds, _error):
        if statement.label in {"runs.get_run_as_told", "runs.get_run", "runs.one_just_ended", "runs.just_ended"}:
            found.append(statement.label)

    door.observe(note)
    yield found
    door.forget_observer(note)


def test_a_round_trip_looks_once_for_the_end(looks_late, looks):
    assert trigger_and_wait(echo("once"), timeout=PATIENCE / 2).unwrap() == "once"
    assert len(looks) == 1


def test_whoever_is_not_called_yet_looks_again_later(looks):
    waited = trigger_and_wait(Behave(tenant_id="acme", action="sleep", argument="0.3"), timeout=PATIENCE)
    assert waited.unwrap() == "slept"
    assert looks.count("runs.get_run_as_told") >= 1


def test_a_send_that_made_no_run_is_looked_for_at_once(looks_late):
    first = trigger_and_wait(echo("key"), timeout=PATIENCE / 2, idempotency_key="answers")
    again = trigger_and_wait(echo("key"), timeout=PATIENCE / 2, idempotency_key="answers")
    assert (again.run_id, again.unwrap()) == (first.run_id, "key")


def test_ends_that_are_called_together_are_read_with_one_statement(looks):
    told = [trigger_and_wait(echo(text), timeout=PATIENCE) for text in ("one", "two")]
    listener, called = ANSWERS.current(), [Answer(), Answer(), Answer()]
    for answer, run in zip(called, told, strict=False):
        answer.run_id = run.run_id
    del looks[:]
    with pytest.MonkeyPatch.context() as patch:
        # Names that no call has which is on its way here.
        patch.setattr(listener, "_expected", {f"test {n}".encode(): answer for n, answer in enumerate(called)})
        listener._take({"type": "message", "data": f"test {n}".encode()} for n in range(3))
    assert [answer.end and answer.end.result for answer in called] == ["one", "two", None]
    assert looks == ["runs.just_ended"]
    assert all(answer.has_come for answer in called)


def test_whoever_is_called_while_postgresql_does_not_answer_is_woken_all_the_same(monkeypatch):
    def refuse(_ids):
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(answers, "just_ended", refuse)
    assert trigger_and_wait(echo("away"), timeout=PATIENCE).unwrap() == "away"


def test_an_end_is_for_those_alone_who_may_see_the_run(looks_late):
    """Whatever a call brings: another tenant's run is unknown."""
    seen = trigger_and_wait(echo("secret"), timeout=PATIENCE / 2)
    answer = Answer()
    answer.end = just_ended([seen.run_id])[seen.run_id]
    client = get_job_client()
    wait = waiting.Wait(RunHandle(seen.run_id), 0.0, client.get_run_status, answer, 1.0)
    assert wait.result() is None  # the first look is left to the worker's call
    with tenant_context("globex"), pytest.raises(UnknownRunError):
        wait.result()
    assert wait.result().unwrap() == "secret"


def test_many_coroutines_wait_on_one_connection(looks_late):
    async def wait():
        return await asyncio.gather(*(atrigger_and_wait(echo(str(n)), timeout=PATIENCE / 2) for n in range(200)))

    assert [result.unwrap() for result in asyncio.run(wait())] == [str(n) for n in range(200)]
    assert sum(thread.name == "cgk-answers" for thread in threading.enumerate()) == 1


def test_a_run_that_is_tried_again_is_found_by_looking():
    waited = trigger_and_wait(Behave(tenant_id="acme", action="fail_then_succeed", argument="1"), timeout=PATIENCE)
    assert waited.unwrap() == 2


def test_a_call_that_is_lost_costs_time_alone(monkeypatch):
    monkeypatch.setattr(Answer, "come", lambda _self, _end: None)
    assert trigger_and_wait(echo("2"), timeout=PATIENCE).unwrap() == "2"


def test_without_a_channel_ends_are_found_by_looking(monkeypatch):
    monkeypatch.setattr(answers, "is_redis", lambda _url: False)
    current_runtime().drop(ANSWERS)
    try:
        assert trigger_and_wait(echo("3"), timeout=PATIENCE).unwrap() == "3"
    finally:
        current_runtime().drop(ANSWERS)


def test_a_wait_that_is_broken_off_at_any_step_leaves_nothing_locked():
    def wait(answer, step, goes_on):
        goes_on.append(act_at(step, stop, lambda: answer.wait(0.001), answers, threading))

    for step in itertools.count(1):
        answer, goes_on = Answer(), []
        # In a thread of its own: there the interpreter goes on handling an error that tracing has broken off.
        for function in (partial(wait, answer, step, goes_on), answer.come):
            thread = threading.Thread(target=function, daemon=True)
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if goes_on == [False]:
            break


def test_an_answer_that_came_before_the_wait_ends_it_at_once_and_only_once():
    answer = Answer()
    answer.come()
    begun = time.monotonic()
    answer.wait(PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2
    answer.wait(0.01)
    assert answer._came.empty()


def test_what_nobody_waits_for_names_no_channel():
    with answers.expected():
        asked = answer_to.get()
    assert (asked is not None, answer_to.get()) == (True, None)


@pytest.mark.parametrize("asked", [None, 7, "", "somebody-elses 1", "cgk:cache:acme:1"])
def test_only_channels_for_answers_are_called(asked, monkeypatch):
    called = []
    monkeypatch.setattr(answers, "get_publisher", lambda: called)
    call_back({ANSWER_HEADER: asked})
    assert called == []


def test_a_process_listens_again_after_its_connection_was_lost(monkeypatch, services):
    monkeypatch.setattr(answers, "_TRY_AGAIN_SECONDS", 0.05)
    assert trigger_and_wait(echo("4"), timeout=PATIENCE).unwrap() == "4"
    ours = ANSWERS.current()
    ours._client.client_kill_filter(_type="pubsub")
    wait_until(lambda: not ours._is_listening.is_set() or called())
    wait_until(called)


def test_a_process_listens_again_after_something_unforeseen(monkeypatch):
    monkeypatch.setattr(answers, "_TRY_AGAIN_SECONDS", 0.05)
    failed = threading.Event()

    def fail(_called):
        failed.set()
        raise RuntimeError("can't start new thread")

    def calls_as_a_worker_does():
        with answers.expected():
            call_back({ANSWER_HEADER: answer_to.get()})
            return failed.wait(1.0)

    with monkeypatch.context() as patch:
        patch.setattr(answers, "_ends_of", fail)
        wait_until(calls_as_a_worker_does)
    wait_until(called)


def test_a_call_for_a_loop_that_is_just_closed_disturbs_nobody():
    for step in itertools.count(1):
        loop = asyncio.new_event_loop()
        goes_on = act_at(step, loop.close, partial(waiting._in_loop, loop, lambda: None), waiting)
        loop.close()
        if not goes_on:
            break


def called():
    """Whether a call gets through now."""
    with answers.expected() as answer:
        came = threading.Event()
        answer.when_it_comes(came.set)
        run = send_job(echo("5"))
        wait_until(lambda: get_run(run.id).is_closed)
        return came.wait(1.0)


# ---- AsyncResult.get() ----------------------------------------------------------------------------------------------


@pytest.fixture
def waits_for_nothing():
    """As a process that has never asked for a result."""
    current_runtime().drop(answers.WAITED_FOR)
    current_runtime().drop(ANSWERS)


@pytest.fixture
def get_looks_late(monkeypatch):
    monkeypatch.setattr(celery_waiting, "_FIRST_NAP_BESIDE_SECONDS", PATIENCE)


def sent(text):
    return cgk_tasks.app.tasks["test.behave"].delay(tenant_id="acme", action="echo", argument=text)


def waited_for_once():
    """A first result has been waited for, and the process listens."""
    assert sent("first").get(timeout=PATIENCE) == "first"
    answers.waits_for("test.behave")  # also if the first one was there at once
    wait_until(ANSWERS.current()._is_listening.is_set)


def test_whoever_has_waited_for_a_task_is_called_for_its_next_runs(waits_for_nothing, get_looks_late):
    waited_for_once()
    for text in ("second", "third"):
        assert sent(text).get(timeout=PATIENCE / 2, interval=PATIENCE) == text


def test_a_result_that_is_there_before_it_is_asked_for_is_given_at_once(waits_for_nothing, get_looks_late):
    waited_for_once()
    result = sent("early")
    wait_until(lambda: get_run(result.id).is_closed)
    assert result.get(timeout=PATIENCE / 2, interval=PATIENCE) == "early"


def test_a_call_to_get_that_is_lost_costs_time_alone(waits_for_nothing, monkeypatch):
    waited_for_once()
    monkeypatch.setattr(Answer, "come", lambda _self, _end: None)
    assert sent("lost").get(timeout=PATIENCE) == "lost"


def test_a_retry_is_waited_for_beyond_the_first_call(waits_for_nothing):
    waited_for_once()
    result = cgk_tasks.app.tasks["test.behave"].delay(tenant_id="acme", action="fail_then_succeed", argument="1")
    assert result.get(timeout=PATIENCE) == 2


def test_a_process_that_never_waits_names_no_channel_and_does_not_listen(waits_for_nothing):
    with answers.foreseen("test.behave", "a-run"):
        asked = answer_to.get()
    assert (asked, current_runtime().take(ANSWERS)) == (None, None)


def test_a_task_that_nobody_waits_for_names_no_channel(waits_for_nothing):
    waited_for_once()
    with answers.foreseen("another.task", "a-run"):
        assert answer_to.get() is None


def test_who_has_not_waited_for_a_while_names_no_channel(waits_for_nothing, monkeypatch):
    monkeypatch.setattr(answers, "_WAITS_AGAIN_SECONDS", 0.0)
    waited_for_once()
    with answers.foreseen("test.behave", "a-run"):
        assert answer_to.get() is None


def test_a_result_that_is_waited_for_is_read_once(waits_for_nothing, get_looks_late, looks):
    waited_for_once()
    del looks[:]
    assert sent("once").get(timeout=PATIENCE / 2, interval=PATIENCE) == "once"
    assert looks == ["runs.one_just_ended"]


def test_who_goes_on_to_wait_for_results_goes_on_to_be_called(waits_for_nothing, monkeypatch):
    waited_for_once()
    known = answers.WAITED_FOR.current()
    known["test.behave"] = foreseen_until = time.monotonic() + PATIENCE / 2
    assert sent("again").get(timeout=PATIENCE) == "again"
    assert known["test.behave"] > foreseen_until


def test_the_failure_of_a_task_that_is_waited_for_is_raised_with_its_traceback(waits_for_nothing, get_looks_late):
    waited_for_once()
    failed = cgk_tasks.app.tasks["test.behave"].delay(tenant_id="acme", action="fail_permanently", argument="")
    with pytest.raises(Exception, match="no such account"):
        failed.get(timeout=PATIENCE / 2, interval=PATIENCE)
    assert "no such account" in failed.traceback


def test_what_nobody_asks_for_is_not_read(waits_for_nothing, looks, monkeypatch):
    waited_for_once()
    come, called = Answer.come, threading.Event()

    def note(self, end=None):
        come(self, end)
        called.set()

    monkeypatch.setattr(Answer, "come", note)
    del looks[:]
    sent("unasked")
    assert called.wait(PATIENCE)
    assert looks == []


def test_results_that_nobody_asks_for_are_forgotten(waits_for_nothing, monkeypatch):
    monkeypatch.setattr(answers, "_MOST_FORESEEN", 3)
    waited_for_once()
    for number in range(10):
        with answers.foreseen("test.behave", f"run-{number}"):
            pass
    assert list(ANSWERS.current()._foreseen) == [b"run-7", b"run-8", b"run-9"]


class Crowded(dict):
    """Another thread sends something whenever this one has begun to go through it."""

    def __iter__(self):
        found = super().__iter__()
        if len(self) < 6:
            self[f"another {len(self)}".encode()] = Answer()
        return found


def test_results_are_forgotten_while_other_threads_send(waits_for_nothing, monkeypatch):
    monkeypatch.setattr(answers, "_MOST_FORESEEN", 2)
    waited_for_once()
    ours = ANSWERS.current()
    ours._foreseen = Crowded(ours._foreseen)
    for number in range(5):
        with answers.foreseen("test.behave", f"run-{number}"):
            pass
    assert len(ours._foreseen) == 2


def test_a_result_that_is_there_is_given_to_who_waits_not_at_all(waits_for_nothing):
    waited_for_once()
    result = sent("there")
    wait_until(lambda: get_run(result.id).is_closed)
    assert result.get(timeout=0) == "there"


def test_a_result_that_was_asked_for_is_not_kept(waits_for_nothing):
    waited_for_once()
    result = sent("asked")
    assert result.id.encode() in ANSWERS.current()._foreseen
    result.get(timeout=PATIENCE)
    assert result.id.encode() not in ANSWERS.current()._foreseen
