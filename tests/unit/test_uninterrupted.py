"""Calls that nothing breaks off: what is to interrupt their thread is raised when they have ended."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cgk_tasks import RetryConfig, define_job
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import JobTimeoutError, RunCancelledError
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.jobs.time_limit import deadline
from cgk_tasks.uninterrupted import raise_in, uninterrupted
from cgk_tasks.worker import interruption
from tests.support.waiting import wait_until


@pytest.fixture(params=["main thread", "another thread"])
def run(request):
    """Calls a function there."""
    if request.param == "main thread":
        previous = interruption.signal.getsignal(interruption.SIGNAL)
        interruption.listen()
        yield lambda function: function()
        interruption.signal.signal(interruption.SIGNAL, previous)
        return
    with ThreadPoolExecutor(1) as pool:
        yield lambda function: pool.submit(function).result(20)


def steps(seconds):
    """Python code that an error can be raised in."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "whole"


def test_a_limit_that_passes_during_such_a_call_is_raised_after_it(run):
    ended = []

    def block():
        with deadline(0.05):
            ended.append(uninterrupted(steps)(0.3))
            steps(20)

    with pytest.raises(JobTimeoutError, match=r"0\.05 s"):
        run(block)
    assert ended == ["whole"]


def test_both_limits_that_pass_during_such_a_call_are_raised_one_after_the_other(run):
    seen = []

    def block():
        with deadline(0.05, 0.1):
            uninterrupted(steps)(0.3)
            for _ in range(2):
                try:
                    steps(20)
                except Exception as exc:
                    seen.append(type(exc).__name__)

    run(block)
    assert seen == ["JobTimeoutError", "TimeLimitExceeded"]


def test_a_cancellation_during_such_a_call_is_raised_after_it(run):
    ended = []

    def block():
        def call():
            interruption.interrupt_own()
            ended.append(steps(0.1))

        uninterrupted(call)()
        steps(20)

    with pytest.raises(RunCancelledError):
        run(lambda: interruption.interruptible("run-1", block))
    assert ended == ["whole"]


def test_such_a_call_in_another_one_ends_nothing_before_the_outer_one_has_ended(run):
    def outer():
        uninterrupted(steps)(0.1)
        return steps(0.1)

    def block():
        with deadline(0.05):
            assert uninterrupted(outer)() == "whole"
            steps(20)

    with pytest.raises(JobTimeoutError):
        run(block)


def test_what_such_a_call_raises_is_its_own_and_what_follows_can_be_interrupted(run):
    def block():
        with deadline(0.1):
            with pytest.raises(ZeroDivisionError):
                uninterrupted(lambda: 1 / 0)()
            steps(20)

    with pytest.raises(JobTimeoutError):
        run(block)


def test_raising_in_such_a_call_is_refused():
    entered, leave = threading.Event(), threading.Event()

    @uninterrupted
    def call():
        entered.set()
        leave.wait(20)
        return "whole"

    with ThreadPoolExecutor(1) as pool:
        ident = pool.submit(threading.get_ident).result(20)
        called = pool.submit(call)
        entered.wait(20)
        assert raise_in(ident, KeyError) is False
        leave.set()
        assert called.result(20) == "whole"


def test_limits_of_many_threads_that_pass_at_once_are_raised_within_their_blocks_alone():
    def block():
        for _ in range(20):
            try:
                with deadline(0.01):
                    steps(0.01)
            except JobTimeoutError:
                pass
            steps(0.002)
        return "whole"

    with ThreadPoolExecutor(20) as pool:
        assert {one.result(60) for one in [pool.submit(block) for _ in range(20)]} == {"whole"}


class Sending(TenantEvent, event="unit.sending"):
    """Its job sends until its time is over."""


class Sent(TenantEvent, event="unit.sent"):
    """Nobody handles it."""


def test_a_local_send_that_a_limit_passes_in_is_whole_and_the_provider_goes_on(monkeypatch):
    use_settings(None)
    provider = LocalProvider()
    ends = []

    def accept_slowly(runs, accept=provider._accept):
        handles = accept(runs)
        if runs[0].event == Sent.event_name:
            steps(0.3)
            ends.extend(handles)
        return handles

    monkeypatch.setattr(provider, "_accept", accept_slowly)

    @define_job("unit-sending", event=Sending, timeout=0.1, retry=RetryConfig(1))
    def send(ctx):
        provider.send(Sent(tenant_id="acme"), SendOptions())
        steps(20)

    try:
        run_id = provider.send(Sending(tenant_id="acme"), SendOptions()).id
        run = wait_until(lambda: found if (found := provider.get_run_status(run_id)).is_closed else None)
        assert (run.error_code, len(ends)) == ("TIMEOUT", 1)
    finally:
        provider.close()
        remove_job("unit-sending")
