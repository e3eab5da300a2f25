"""What follows from a step's error: another attempt in a later leg, or the step's end."""

from __future__ import annotations

from typing import Literal

from cgk_tasks.errors import RetryLater, TransientError
from cgk_tasks.jobs.error_record import classified, error_record
from cgk_tasks.jobs.retry import RetryConfig, backoff_seconds, next_delay
from cgk_tasks.runs.steps import Memo, StepFailure
from cgk_tasks.runs.text import text_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.leg import Leg


class Retries:
    """Of the steps of one leg."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def failed(self, call: Call, retry: RetryConfig | None, exc: Exception, seconds: float) -> Memo | None:
        """What follows from a step's error: None if it is tried again, which a later leg does; else how it ended."""
        if isinstance(exc, RetryLater):
            self._leg.wait(call, call.open("begun", delay_seconds=exc.delay_seconds), text_of(exc.reason) or _of(call))
            self._leg.goes_on(StepFailure(exc.delay_seconds, exc))
            return None
        failure = self._next(call, retry, exc)
        if failure is None:
            error = error_record(exc, call.attempts + 1, classified(exc))
            return call.ended("failed", error=error, seconds=seconds)
        self._try_again(call, "begun", failure, seconds)
        return None

    def effect_failed(self, call: Call, retry: RetryConfig | None, exc: Exception, seconds: float) -> Memo | None:
        """The same for an effect. Unless its error says that it did not happen, a later leg asks whether it did."""
        if isinstance(exc, TransientError | RetryLater) or classified(exc).kind == "permanent":
            return self.failed(call, retry, exc, seconds)
        failure = self._next(call, retry, exc) or self._later(call, retry, exc)
        self._try_again(call, "intent", failure, seconds)
        return None

    def look_again(self, call: Call, exc: Exception, retry: RetryConfig | None) -> None:
        """It cannot be told for now whether an effect happened: that is asked again after a pause, and no attempt."""
        self._try_again(call, "intent", self._later(call, retry, exc), attempts=0)

    def _try_again(
        self,
        call: Call,
        state: Literal["begun", "intent"],
        failure: StepFailure,
        seconds: float = 0.0,
        attempts: int = 1,
    ) -> None:
        memo = call.open(
            state, error=failure.error, attempts=call.attempts + attempts, delay_seconds=failure.delay_seconds,
            seconds=seconds,
        )  # fmt: skip
        self._leg.wait(call, memo, _of(call))
        self._leg.goes_on(failure)

    def _next(self, call: Call, retry: RetryConfig | None, exc: Exception) -> StepFailure | None:
        """When a step is tried again after this error; None for never."""
        policy, attempt, found = retry or self._leg.retry, call.attempts + 1, classified(exc)
        began = call.memo.begun_at if call.memo is not None else None
        delay = next_delay(
            policy, attempt, max_attempts=policy.max_attempts, classification=found,
            elapsed_seconds=(known_now() - began).total_seconds() if began else 0.0,
        )  # fmt: skip
        return None if delay is None else StepFailure(delay, exc, error_record(exc, attempt, found), found.code)

    def _later(self, call: Call, retry: RetryConfig | None, exc: Exception) -> StepFailure:
        attempt, found = call.attempts + 1, classified(exc)
        delay = backoff_seconds(retry or self._leg.retry, attempt)
        return StepFailure(delay, exc, error_record(exc, attempt, found), found.code)

    def not_done(self, call: Call, retry: RetryConfig | None) -> Memo | None:
        """An effect did not happen: it is done again, or None if it has no attempt left."""
        is_used_up = call.attempts >= (retry or self._leg.retry).max_attempts
        return None if is_used_up else call.open("begun")

    def is_put_off(self, call: Call) -> bool:
        """Whether a step that failed, or put itself off, is not due yet."""
        memo = call.memo
        if memo is None or memo.state not in {"begun", "intent"} or memo.until is None or memo.is_due:
            return False
        self._leg.wait(call, memo, _of(call))
        self._leg.goes_on(StepFailure(max((memo.until - known_now()).total_seconds(), 0.0)))
        return True


def _of(call: Call) -> str:
    return f"{call.kind} {call.name}"
