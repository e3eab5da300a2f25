"""When a failed run is tried again: the retry policy of a job, and the wait before its next attempt."""

import math
import random as _random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, as_seconds
from cgk_tasks.jobs.classification import Classification

Backoff = Literal["exponential", "linear", "fixed"]


@dataclass(frozen=True, init=False)
class RetryConfig:
    """How often and how soon a failed run is tried again. Times are in seconds, or timedeltas.

    max_attempts: all attempts, the first included; 1 means no retry.
    backoff: how the wait grows with the failures: ``exponential`` (times ``factor`` each time), ``linear``
        (one ``initial_delay`` more each time) or ``fixed``.
    factor: the growth of the exponential backoff, at least 1.
    initial_delay: the wait after the first failure, from 0.
    max_delay: no wait grows beyond this. A Retry-After of the other side may be longer and is kept.
    jitter: take a random wait between half and all of it, so that runs that failed together come back apart.
    max_elapsed: no attempt starts later than this after the first one; None means no limit.

    Raises ConfigurationError if a value is out of its range.
    """

    max_attempts: int
    backoff: Backoff
    factor: float
    initial_delay: float
    max_delay: float
    jitter: bool
    max_elapsed: float | None

    # Written out because it accepts timedeltas, while every reader finds plain seconds.
    def __init__(
        self,
        max_attempts: int = 3,
        backoff: Backoff = "exponential",
        factor: float = 2.0,
        initial_delay: float | timedelta = 1.0,
        max_delay: float | timedelta = 60.0,
        jitter: bool = True,
        max_elapsed: float | timedelta | None = None,
    ) -> None:
        values = {
            "max_attempts": max_attempts,
            "backoff": backoff,
            "factor": _number("factor", factor),
            "initial_delay": _number("initial_delay", initial_delay),
            "max_delay": _number("max_delay", max_delay),
            "jitter": jitter,
            "max_elapsed": None if max_elapsed is None else _number("max_elapsed", max_elapsed),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise _invalid("max_attempts", self.max_attempts, "a whole number from 1 (1 means no retry)")
        if self.backoff not in get_args(Backoff):
            raise _invalid("backoff", self.backoff, '"exponential", "linear" or "fixed"')
        if self.factor < 1:
            raise _invalid("factor", self.factor, "at least 1, or waits would shrink")
        if self.initial_delay < 0:
            raise _invalid("initial_delay", self.initial_delay, "0 or more seconds")
        if self.max_delay < self.initial_delay:
            raise _invalid("max_delay", self.max_delay, f"at least initial_delay ({self.initial_delay:g} s)")
        if not isinstance(self.jitter, bool):
            raise _invalid("jitter", self.jitter, "True or False")
        if self.max_elapsed is not None and self.max_elapsed <= 0:
            raise _invalid("max_elapsed", self.max_elapsed, "more than 0 seconds, or None for no limit")


def _number(name: str, value: object) -> float:
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        seconds = as_seconds(value)
        if math.isfinite(seconds):
            return seconds
    raise _invalid(name, value, "a finite number" if name == "factor" else "a finite number of seconds or a timedelta")


def _invalid(name: str, value: object, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"RetryConfig({name}={value!r}) is not valid: {name} must be {wanted}.")


PLATFORM_DEFAULT = RetryConfig()
"""The policy of a job that names none: 3 attempts, exponential from 1 s to at most 60 s."""

TASK_RUNNER_DEFAULT = RetryConfig(max_attempts=3, factor=2.0, initial_delay=1.0, max_delay=10.0, jitter=True)
"""The policy of a workflow that names none: 3 attempts, factor 2, from 1 s to at most 10 s."""


def backoff_seconds(retry: RetryConfig, failures: int, random: Callable[[], float] = _random.random) -> float:
    """Return the seconds to wait after ``failures`` failed attempts: from 0 to ``retry.max_delay``.

    With jitter the wait is spread evenly over the upper half, so that it never comes near to at once.

    failures: failed attempts so far, from 1.
    random: returns a number from 0 to 1.
    Raises ValueError if failures is below 1.
    """
    if failures < 1:
        raise ValueError(f"failures is {failures}, but a backoff follows at least 1 failure")
    wait = min(_plain_backoff(retry, failures), retry.max_delay)
    return wait * (0.5 + 0.5 * random()) if retry.jitter else wait


def calculate_retry_delay(attempt: int, retry: RetryConfig | None = None) -> float:
    """Seconds until the next attempt, after so many failed ones: what a worker waits, with jitter.

        calculate_retry_delay(1, RetryConfig(initial_delay=10, jitter=False))  # 10.0

    attempt: failed attempts so far, from 1. retry: of a job that names none, if not given. Raises ValueError below 1.
    """
    return backoff_seconds(retry or PLATFORM_DEFAULT, attempt)


def _plain_backoff(retry: RetryConfig, failures: int) -> float:
    if retry.backoff == "fixed" or retry.initial_delay == 0:
        return retry.initial_delay
    try:
        if retry.backoff == "linear":
            return retry.initial_delay * failures
        return retry.initial_delay * retry.factor ** (failures - 1)
    except OverflowError:  # beyond any max_delay
        return retry.max_delay


def next_delay(
    retry: RetryConfig,
    failures: int,
    *,
    max_attempts: int,
    elapsed_seconds: float,
    classification: Classification,
) -> float | None:
    """Return the seconds until the next attempt, at most a hundred years; or None if there must be none.

    failures: failed attempts so far, from 1, the one just failed included.
    max_attempts: the run's own limit, which a send may have changed from the job's.
    elapsed_seconds: time since the run's first attempt started.
    classification: of the error that ended the last attempt; its ``retry_after`` is the least wait.
    """
    if classification.kind == "permanent" or failures >= max_attempts:
        return None
    delay = min(max(backoff_seconds(retry, failures), classification.retry_after or 0.0), LONGEST_WAIT_SECONDS)
    if retry.max_elapsed is not None and elapsed_seconds + delay > retry.max_elapsed:
        return None
    return delay
