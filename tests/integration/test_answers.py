"""How a sender that waits learns of its run's end: by a call of the worker's, and without one by looking."""

import asyncio
import threading
import time

import pytest

from cgk_tasks import atrigger_and_wait, get_run, send_job, trigger_and_wait
from cgk_tasks.broker import answers
from cgk_tasks.broker.answers import ANSWERS, Answer, call_back
from cgk_tasks.broker.envelope import ANSWER_HEADER, answer_to
from cgk_tasks.client import waiting
from cgk_tasks.runtime import current_runtime
from tests.support.jobs import Behave
from tests.support.waiting import wait_until

PATIENCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.jobs"], concurrency=2)


@pytest.fixture
def looks_late(monkeypatch):
    """Whoever waits looks for itself once a minute alone."""
    monkeypatch.setattr(waiting, "_FIRST_LOOK_BESIDE_SECONDS", PATIENCE)
    monkeypatch.setattr(waiting, "_SLOWEST_LOOK_BESIDE_SECONDS", PATIENCE)


def echo(text, tenant="acme"):
    return Behave(tenant_id=tenant, action="echo", argument=text)


def test_the_worker_calls_when_the_end_is_on_record(looks_late):
    assert trigger_and_wait(echo("1"), timeout=PATIENCE / 2).unwrap() == "1"


def test_it_calls_for_a_run_that_fails_too(looks_late):
    failed = trigger_and_wait(Behave(tenant_id="acme", action="fail_permanently"), timeout=PATIENCE / 2)
    assert failed.code == "ACCOUNT_NOT_FOUND"


def test_many_coroutines_wait_on_one_connection(looks_late):
    async def wait():
        return await asyncio.gather(*(atrigger_and_wait(echo(str(n)), timeout=PATIENCE / 2) for n in range(200)))

    assert [result.unwrap() for result in asyncio.run(wait())] == [str(n) for n in range(200)]
    assert sum(thread.name == "cgk-answers" for thread in threading.enumerate()) == 1


def test_a_run_that_is_tried_again_is_found_by_looking():
    waited = trigger_and_wait(Behave(tenant_id="acme", action="fail_then_succeed", argument="1"), timeout=PATIENCE)
    assert waited.unwrap() == 2


def test_a_call_that_is_lost_costs_time_alone(monkeypatch):
    monkeypatch.setattr(Answer, "come", lambda _self: None)
    assert trigger_and_wait(echo("2"), timeout=PATIENCE).unwrap() == "2"


def test_without_a_channel_ends_are_found_by_looking(monkeypatch):
    monkeypatch.setattr(answers, "is_redis", lambda _url: False)
    current_runtime().drop(ANSWERS)
    try:
        assert trigger_and_wait(echo("3"), timeout=PATIENCE).unwrap() == "3"
    finally:
        current_runtime().drop(ANSWERS)


def test_an_answer_that_came_before_the_wait_ends_it_at_once_and_only_once():
    answer = Answer()
    answer.come()
    begun = time.monotonic()
    answer.wait(PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2
    answer.wait(0.01)
    assert not answer._came.is_set()


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


def called():
    """Whether a call gets through now."""
    with answers.expected() as answer:
        came = threading.Event()
        answer.when_it_comes(came.set)
        run = send_job(echo("5"))
        wait_until(lambda: get_run(run.id).is_closed)
        return came.wait(1.0)
