"""One leg of a run: its memos, which of them the function has asked for, and what it waits for.

Nothing here knows where memos are kept, or whether the function is a coroutine.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    LONGEST_WAIT_SECONDS,
    ConfigurationError,
    PermanentError,
    RetryLater,
    StepFailedError,
    TransientError,
    WorkflowChangedError,
    as_seconds,
)
from cgk_tasks.jobs.error_record import classified, error_record
from cgk_tasks.jobs.retry import RetryConfig, backoff_seconds, next_delay
from cgk_tasks.runs.steps import Memo, StepFailure, StepKind, StepRecord, Suspension
from cgk_tasks.runs.text import storable_json, text_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.effects import decision
from cgk_tasks.workflows.names import KnownNames
from cgk_tasks.workflows.suspension import WorkflowSuspended

log = structlog.get_logger("cgk_tasks.runs")

BEGIN: Final = "$begin"
_MAX_REASON: Final = 300


class Leg:
    """workflow: its id, for what people read. begin: what is kept before the first memo, of a workflow. names: those
    that its function has. retry: of steps that have none of their own.
    """

    def __init__(
        self, record: StepRecord, workflow: str, names: KnownNames, retry: RetryConfig, memos: Sequence[Memo],
        begin: Memo | None = None,
        waits_for: Collection[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self.record = record
        self.waits_for = waits_for
        self._workflow = workflow
        self._names = names
        self._retry = retry
        self._unwritten: dict[tuple[str, int], Memo] = {}
        if begin is not None and not any(memo.kind == "begin" for memo in memos):
            self._unwritten[begin.name, begin.nth] = begin
        self._memos = {(memo.name, memo.nth): memo for memo in memos if memo.kind != "begin"}
        self._unasked = dict.fromkeys(self._memos)
        self._calls: Counter[str] = Counter()
        self._places = max((memo.place for memo in memos), default=0)
        self._on: set[str] = set()
        self._waits: dict[tuple[str, int], Memo] = {}
        self._reasons: dict[tuple[str, int], str] = {}
        self._failure: StepFailure | None = None
        self._lock = threading.RLock()
        self.has_ended = False
        """Whether it has ended at a wait, whatever the function makes of that."""

    # ---- asking for steps

    @property
    def is_replaying(self) -> bool:
        """Whether steps are on record that the function has not asked for yet."""
        return bool(self._unasked)

    @contextmanager
    def call(self, name: str, kind: StepKind) -> Iterator[Call]:
        """The next call with this name, which no other may have while the block runs.

        Raises ConfigurationError, WorkflowChangedError, PermanentError for too many steps.
        """
        with self._lock:
            if name in self._on:
                raise ConfigurationError(
                    f"Two steps called {name!r} are on at the same time.",
                    hint="Steps that run at the same time need names of their own, such as f'send-{number}'.",
                )
            self._on.add(name)
        try:
            with self._lock:
                call = self._ask(name, kind)
            yield call
        finally:
            self._on.discard(name)

    def _ask(self, name: str, kind: StepKind) -> Call:
        self._calls[name] += 1
        key = name, self._calls[name]
        self._unasked.pop(key, None)
        memo = self._memos.get(key)
        if memo is not None:
            if memo.kind != kind:
                raise WorkflowChangedError(self._workflow, [name])
            return Call(*key, memo.place, kind, memo)
        self._check_unasked()
        self._places += 1
        self._check_number(self._places)
        return Call(*key, self._places, kind, None)

    def _check_unasked(self) -> None:
        """What the function cannot ask for any more was done by other code: then nothing new is begun."""
        gone = [name for name, _ in self._unasked if not self._names.has(name)]
        if gone:
            raise WorkflowChangedError(self._workflow, list(dict.fromkeys(gone)))

    def check_all_asked(self) -> None:
        """At a wait, and at the end. Raises WorkflowChangedError."""
        if self._unasked:
            raise WorkflowChangedError(self._workflow, list(dict.fromkeys(name for name, _ in self._unasked)))

    def _check_number(self, number: int) -> None:
        most = get_settings().max_steps
        if number > most:
            raise PermanentError(
                f"Workflow {self._workflow!r} has more than {most} steps in one run.",
                "TOO_MANY_STEPS",
                hint="Let a step do more at once, or raise CGK_MAX_STEPS where it runs.",
            )
        if number == most * 4 // 5:
            log.warning("workflow_has_many_steps", workflow=self._workflow, steps=number, most=most)

    # ---- steps that end

    def keep(self, call: Call, memo: Memo, session: Any = None) -> Memo:
        """Put a step that is over on record. Returns it as it stands there. Raises StaleAttemptError."""
        before = self._before()
        kept = self.record.keep(memo, before, session)
        self._has_kept(call, kept, before)
        return kept

    def _before(self) -> list[Memo]:
        """What the next write takes along: with which version the run began, and sleeps that are over."""
        with self._lock:
            return list(self._unwritten.values())

    def _has_kept(self, call: Call, memo: Memo, before: Sequence[Memo]) -> None:
        with self._lock:
            self._memos[call.name, call.nth] = memo
            for one in before:
                self._unwritten.pop((one.name, one.nth), None)

    def _take(self, call: Call, make: Callable[[str], Memo], mail: str) -> Memo | None:
        """The step that the oldest mail of this name makes, on record; None if there is none."""
        before = self._before()
        found = self.record.take(make, mail, before)
        if found is not None:
            self._has_kept(call, found, before)
        return found

    def error_of(self, memo: Memo) -> StepFailedError:
        error = json.loads(memo.error or "{}")
        return StepFailedError(memo.name, error.get("code", "UNKNOWN_ERROR"), error.get("message", ""))

    def failed(self, call: Call, retry: RetryConfig | None, exc: Exception, seconds: float) -> Memo | None:
        """What follows from a step's error: None if it is tried again, which a later leg does; else how it ended."""
        if isinstance(exc, RetryLater):
            self._wait(call, call.open("begun", delay_seconds=exc.delay_seconds), text_of(exc.reason) or _of(call))
            self._goes_on(StepFailure(exc.delay_seconds, exc))
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
        self._wait(call, memo, _of(call))
        self._goes_on(failure)

    def _next(self, call: Call, retry: RetryConfig | None, exc: Exception) -> StepFailure | None:
        """When a step is tried again after this error; None for never."""
        policy, attempt, found = retry or self._retry, call.attempts + 1, classified(exc)
        began = call.memo.begun_at if call.memo is not None else None
        delay = next_delay(
            policy, attempt, max_attempts=policy.max_attempts, classification=found,
            elapsed_seconds=(known_now() - began).total_seconds() if began else 0.0,
        )  # fmt: skip
        return None if delay is None else StepFailure(delay, exc, error_record(exc, attempt, found), found.code)

    def _later(self, call: Call, retry: RetryConfig | None, exc: Exception) -> StepFailure:
        attempt, found = call.attempts + 1, classified(exc)
        delay = backoff_seconds(retry or self._retry, attempt)
        return StepFailure(delay, exc, error_record(exc, attempt, found), found.code)

    def _goes_on(self, failure: StepFailure) -> None:
        """Of several steps that are tried again, the first that is due says when, and one with an error says why."""
        if self._failure is not None:
            known = self._failure
            told = known if known.error is not None else failure
            failure = replace(told, delay_seconds=min(known.delay_seconds, failure.delay_seconds))
        self._failure = failure

    def not_done(self, call: Call, retry: RetryConfig | None) -> Memo | None:
        """An effect did not happen: it is done again, or None if it has no attempt left."""
        is_used_up = call.attempts >= (retry or self._retry).max_attempts
        return None if is_used_up else call.open("begun")

    def decided(self, call: Call) -> Memo | None:
        """What a person says of an effect that may have happened; None while nobody has."""
        while True:
            found = self._take(call, partial(decision, call), call.name)
            if found is None:
                self._wait(call, call.waiting(awaits=(call.name,)), f"a decision about effect {call.name}")
                return None
            if found.state != "waiting":
                return found

    # ---- waits

    def is_put_off(self, call: Call) -> bool:
        """Whether a step that failed, or put itself off, is not due yet."""
        memo = call.memo
        if memo is None or memo.state not in {"begun", "intent"} or memo.until is None or memo.is_due:
            return False
        self._wait(call, memo, _of(call))
        self._goes_on(StepFailure(max((memo.until - known_now()).total_seconds(), 0.0)))
        return True

    def is_slept(self, call: Call, until: datetime | float) -> bool:
        """Whether the time of a sleep is over; else it is noted that the run waits for it. until: or for how long.

        That it is over goes on record with the next step: should the clock be set back, it stays so.
        """
        if call.is_over:
            return True
        if call.memo is not None:
            if call.memo.is_due:
                with self._lock:
                    self._unwritten[call.name, call.nth] = call.ended("done")
                return True
            wait = call.waiting(until=call.memo.until)
        else:
            wait = call.waiting(until=until) if isinstance(until, datetime) else call.waiting(delay_seconds=until)
        self._wait(call, wait, f"sleep {call.name}")
        return False

    def taken(self, call: Call, mail: str, timeout: float | None, reason: str) -> Memo | None:
        """A wait for mail that is over, with the mail or because its time is; else it is noted that the run waits."""
        if call.memo is not None and call.memo.is_over:
            return call.memo
        found = self._take(call, lambda payload: call.ended("done", result=payload), mail)
        if found is not None:
            return found
        if call.memo is None:
            wait = call.waiting(delay_seconds=timeout, awaits=(mail,))
        elif call.memo.is_due:
            return self.keep(call, call.ended("timed_out"))
        else:
            wait = call.waiting(until=call.memo.until, awaits=(mail,))
        self._wait(call, wait, reason)
        return None

    def first(self, call: Call, mails: Mapping[str, str], timers: Mapping[str, float]) -> Memo | None:
        """A wait for the first of several that is over; else it is noted that the run waits. mails: names of mail, and
        timers: seconds, each by how the workflow calls it. Mail that is there goes before a timer that is over.
        """
        if call.memo is not None and call.memo.is_over:
            return call.memo
        for name, mail in mails.items():
            found = self._take(call, partial(_first, call, name), mail)
            if found is not None:
                return found
        shortest = min(timers, key=lambda name: timers[name], default=None)
        awaits = tuple(mails.values())
        if call.memo is not None and call.memo.is_due and shortest is not None:
            return self.keep(call, _first(call, shortest, "null"))
        if call.memo is not None:
            wait = call.waiting(until=call.memo.until, awaits=awaits)
        else:
            wait = call.waiting(delay_seconds=None if shortest is None else timers[shortest], awaits=awaits)
        self._wait(call, wait, f"the first of {', '.join([*mails, *timers])} ({call.name})")
        return None

    def _wait(self, call: Call, memo: Memo, reason: str) -> None:
        self._waits[call.name, call.nth] = memo
        self._reasons[call.name, call.nth] = reason

    def check_goes_on(self) -> None:
        """What has ended the leg ends it, also where the function has caught it. Raises WorkflowSuspended."""
        if self.has_ended:
            raise self.suspended()

    def suspended(self) -> WorkflowSuspended:
        """What ends the leg: all that it waits for."""
        self.has_ended = True
        memos = list(self._waits.values())
        failure = self._failure
        if failure is not None:  # a wait beside it may be over before
            failure = replace(failure, delay_seconds=min([failure.delay_seconds, *_seconds_left(memos)]))
        memos[:0] = self._before()
        reason = ", ".join(self._reasons.values())[:_MAX_REASON]
        deferral = storable_json({"code": "WAITS", "reason": reason})
        return WorkflowSuspended(Suspension(tuple(memos), failure, deferral))


def _seconds_left(memos: Sequence[Memo]) -> Iterator[float]:
    for memo in memos:
        if memo.delay_seconds is not None:
            yield memo.delay_seconds
        elif memo.until is not None:
            yield max((memo.until - known_now()).total_seconds(), 0.0)


def _first(call: Call, name: str, payload: str) -> Memo:
    """payload: JSON text."""
    return call.ended("done", result=f'{{"first": {json.dumps(name)}, "value": {payload}}}')


def _of(call: Call) -> str:
    return f"{call.kind} {call.name}"


def sleep_seconds(name: str, delay: float | timedelta) -> float:
    """Raises ConfigurationError for what is no duration."""
    try:
        seconds = as_seconds(delay)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{name!r} cannot last {delay!r}.", hint="Give seconds from 0, or a timedelta.")
    return min(seconds, LONGEST_WAIT_SECONDS)
