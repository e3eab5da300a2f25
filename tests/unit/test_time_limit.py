"""The limits of a block are raised in it: each one once, in the main thread and in others."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from billiard.exceptions import TimeLimitExceeded

from cgk_tasks.errors import JobTimeoutError
from cgk_tasks.events import OrderCreated
from cgk_tasks.jobs.time_limit import deadline, hidden_interrupt, kept_alarm, within


@pytest.fixture(params=["main thread", "another thread"])
def run(request):
    """Calls a function there."""
    if request.param == "main thread":
        yield lambda function: function()
        return
    with ThreadPoolExecutor(1) as pool:
        yield lambda function: pool.submit(function).result(20)


def work(seconds):
    """Python code that an error can be raised in."""
    until, never = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < until:
        never.wait(0.005)
    return "worked"


def test_a_block_within_its_limits_is_left_alone(run):
    def block():
        with deadline(0.2, 0.3):
            work(0.01)
        return work(0.4)

    assert run(block) == "worked"


def test_a_soft_limit_is_raised_with_its_seconds(run):
    def block():
        with deadline(0.05):
            work(5)

    with pytest.raises(JobTimeoutError) as caught:
        run(block)
    assert (type(caught.value), caught.value.timeout_seconds) == (JobTimeoutError, 0.05)


def test_a_hard_limit_alone_is_raised_with_its_seconds(run):
    def block():
        with deadline(0, 0.05):
            work(5)

    with pytest.raises(TimeLimitExceeded) as caught:
        run(block)
    assert (type(caught.value), caught.value.args) == (TimeLimitExceeded, (0.05,))


def test_the_block_may_clean_up_between_its_soft_limit_and_its_hard_one(run):
    def block():
        with deadline(0.05, 5):
            try:
                work(5)
            except JobTimeoutError as exc:
                return type(exc).__name__, work(0.2)

    assert run(block) == ("JobTimeoutError", "worked")


def test_a_clean_up_ends_at_the_hard_limit(run):
    def block():
        with deadline(0.05, 0.2):
            try:
                work(5)
            except JobTimeoutError:
                work(5)

    begun = time.monotonic()
    with pytest.raises(TimeLimitExceeded):
        run(block)
    assert time.monotonic() - begun < 4


def test_a_soft_limit_beyond_the_hard_one_does_not_matter(run):
    def block():
        with deadline(5, 0.05):
            work(5)

    with pytest.raises(TimeLimitExceeded):
        run(block)


def test_a_limit_around_another_holds_after_the_inner_one_was_raised(run):
    def block():
        with deadline(0.3):
            with pytest.raises(JobTimeoutError) as inner, deadline(0.05):
                work(5)
            assert inner.value.timeout_seconds == 0.05
            work(5)

    with pytest.raises(JobTimeoutError) as caught:
        run(block)
    assert caught.value.timeout_seconds == 0.3


def wait_without_its_lock():
    """As Event.wait, Queue.get and Future.result do, for as long as an error needs to get here."""
    condition = threading.Condition(threading.Lock())
    condition._acquire_restore = lambda _saved: work(20)
    with condition:
        condition.wait(0.001)


def test_a_limit_that_passes_while_threading_has_let_go_of_its_lock_is_the_limits_error(run):
    def block():
        with deadline(0.05):
            wait_without_its_lock()

    with pytest.raises(JobTimeoutError, match=r"0\.05 s"):
        run(block)


def test_an_error_that_a_block_makes_of_its_limit_is_the_blocks(run):
    def block():
        with deadline(0.05):
            try:
                work(20)
            except JobTimeoutError:
                raise RuntimeError("of its own")  # noqa: B904 - the context alone must not decide

    with pytest.raises(RuntimeError, match="of its own"):
        run(block)


def test_an_error_of_a_lock_that_nothing_interrupted_is_its_own():
    with pytest.raises(RuntimeError) as caught:
        threading.Condition(threading.Lock()).notify()
    assert hidden_interrupt(caught.value) is None


def test_blocks_that_share_an_alarm_have_limits_of_their_own():
    with kept_alarm():
        with pytest.raises(JobTimeoutError), deadline(0.05, 5):
            work(5)
        with deadline(5):
            assert work(0.1) == "worked"
        with pytest.raises(TimeLimitExceeded), deadline(0, 0.05):
            work(5)


def test_a_limit_that_passes_while_a_payload_is_written_is_raised_as_what_it_is(run):
    order = OrderCreated(tenant_id="acme", order_id="o-1", total_amount=59.97)

    def write_again_and_again():
        while True:
            order.to_json()

    for _ in range(50):
        with pytest.raises(JobTimeoutError):
            run(lambda: within(0.002, 0, write_again_and_again))
