"""The retry policy: what it accepts, how long it waits, when it gives up."""

import dataclasses
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, TransientError
from cgk_tasks.jobs.classification import Classification
from cgk_tasks.jobs.retry import (
    PLATFORM_DEFAULT,
    TASK_RUNNER_DEFAULT,
    RetryConfig,
    backoff_seconds,
    next_delay,
)

TRANSIENT = Classification("transient", "TIMEOUT")


any_boolean = st.booleans()


@st.composite
def policies(draw, jitter=any_boolean):
    initial = draw(st.floats(0, 1e6))
    return RetryConfig(
        backoff=draw(st.sampled_from(["exponential", "linear", "fixed"])),
        factor=draw(st.floats(1, 1e6)),
        initial_delay=initial,
        max_delay=draw(st.floats(initial, 1e9)),
        jitter=draw(jitter),
    )


failure_counts = st.integers(1, 10_000)


@given(policies(), failure_counts, st.floats(0, 1))
def test_a_wait_is_finite_never_negative_and_never_above_max_delay(retry, failures, chance):
    wait = backoff_seconds(retry, failures, lambda: chance)
    assert math.isfinite(wait)
    assert 0 <= wait <= retry.max_delay


@given(policies(jitter=st.just(False)), st.integers(1, 300))
def test_without_jitter_a_wait_is_never_shorter_than_the_one_before(retry, failures):
    before, after = backoff_seconds(retry, failures), backoff_seconds(retry, failures + 1)
    assert after >= before or math.isclose(after, before)


@given(policies(jitter=st.just(True)), failure_counts, st.floats(0, 1))
def test_jitter_keeps_at_least_half_of_the_wait(retry, failures, chance):
    whole = backoff_seconds(dataclasses.replace(retry, jitter=False), failures)
    assert whole / 2 <= backoff_seconds(retry, failures, lambda: chance) <= whole


@pytest.mark.parametrize("backoff", ["exponential", "linear", "fixed"])
@pytest.mark.parametrize("factor", [1.0, 2.0, 1e300])
def test_ten_thousand_failures_do_not_overflow(backoff, factor):
    retry = RetryConfig(backoff=backoff, factor=factor, jitter=False)
    assert backoff_seconds(retry, 10_000) in (1.0, 60.0)


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        ("exponential", [2, 6, 18, 30, 30]),
        ("linear", [2, 4, 6, 8, 10]),
        ("fixed", [2, 2, 2, 2, 2]),
    ],
)
def test_waits_grow_as_the_policy_says(backoff, waits):
    retry = RetryConfig(backoff=backoff, factor=3, initial_delay=2, max_delay=30, jitter=False)
    assert [backoff_seconds(retry, failures) for failures in range(1, 6)] == waits


def test_an_initial_delay_of_zero_always_retries_at_once():
    assert backoff_seconds(RetryConfig(initial_delay=0, factor=1e300), 10_000) == 0


def test_a_backoff_before_the_first_failure_is_refused():
    with pytest.raises(ValueError, match="follows at least 1 failure"):
        backoff_seconds(PLATFORM_DEFAULT, 0)


def test_delays_may_be_timedeltas():
    retry = RetryConfig(initial_delay=timedelta(minutes=1), max_delay=timedelta(hours=1), max_elapsed=timedelta(days=1))
    assert (retry.initial_delay, retry.max_delay, retry.max_elapsed) == (60.0, 3600.0, 86_400.0)


def test_a_policy_cannot_be_changed_but_replaced():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLATFORM_DEFAULT.max_attempts = 5
    assert dataclasses.replace(PLATFORM_DEFAULT, max_attempts=5) == RetryConfig(max_attempts=5)


def test_the_platforms_defaults():
    assert RetryConfig() == PLATFORM_DEFAULT
    assert dataclasses.astuple(PLATFORM_DEFAULT) == (3, "exponential", 2.0, 1.0, 60.0, True, None)
    assert dataclasses.astuple(TASK_RUNNER_DEFAULT) == (3, "exponential", 2.0, 1.0, 10.0, True, None)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 2.5),
        ("max_attempts", True),
        ("backoff", "random"),
        ("factor", 0.5),
        ("factor", math.nan),
        ("factor", "2"),
        ("initial_delay", -1),
        ("initial_delay", timedelta(seconds=-1)),
        ("initial_delay", None),
        ("max_delay", 0.5),
        ("max_delay", math.inf),
        ("jitter", "yes"),
        ("max_elapsed", 0),
    ],
)
def test_a_wrong_option_is_refused_by_name(option, value):
    with pytest.raises(ConfigurationError, match=rf"RetryConfig\({option}=.*{option} must be"):
        RetryConfig(**{option: value})


def decide(retry=PLATFORM_DEFAULT, failures=1, max_attempts=3, elapsed=0.0, classification=TRANSIENT):
    return next_delay(
        retry, failures, max_attempts=max_attempts, elapsed_seconds=elapsed, classification=classification
    )


@pytest.mark.parametrize("kind", ["transient", "unknown"])
def test_a_failure_that_may_pass_is_retried_after_the_backoff(kind):
    assert 0.5 <= decide(classification=Classification(kind, "X")) <= 1.0


def test_a_permanent_failure_is_not_retried():
    assert decide(classification=Classification("permanent", "INVALID_INPUT")) is None


def test_the_last_attempt_is_not_retried():
    assert decide(failures=2) is not None
    assert decide(failures=3) is None


def test_the_runs_own_max_attempts_goes_before_the_jobs():
    assert decide(failures=3, max_attempts=10) is not None


def test_retry_after_is_the_least_wait_even_beyond_max_delay():
    assert decide(classification=Classification("transient", "RATE_LIMITED", 300.0)) == 300.0


def test_a_short_retry_after_does_not_shorten_the_backoff():
    retry = RetryConfig(initial_delay=10, jitter=False)
    assert decide(retry, classification=Classification("transient", "RATE_LIMITED", 1.0)) == 10.0


def test_no_attempt_starts_after_max_elapsed():
    retry = RetryConfig(initial_delay=10, jitter=False, max_elapsed=60)
    assert decide(retry, elapsed=50) == 10.0
    assert decide(retry, elapsed=50.1) is None


@pytest.mark.parametrize("asked", [1e13, 10**400, math.inf, timedelta.max])
def test_nobody_waits_longer_than_a_hundred_years(asked):
    failed = Classification("transient", "BUSY", TransientError("busy", retry_after=asked).retry_after)
    assert decide(classification=failed) == LONGEST_WAIT_SECONDS


def test_a_policy_may_say_more_and_waits_a_hundred_years():
    retry = RetryConfig(initial_delay=1e12, max_delay=1e13, jitter=False)
    assert decide(retry) == LONGEST_WAIT_SECONDS
