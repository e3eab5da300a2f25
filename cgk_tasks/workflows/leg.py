"""One leg of a run: its memos, which of them the function has asked for, and what it waits for.

Nothing here knows where memos are kept, or whether the function is a coroutine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    LONGEST_WAIT_SECONDS,
    ConfigurationError,
    PermanentError,
    RetryLater,
    StepFailedError,
    WorkflowChangedError,
    as_seconds,
)
from cgk_tasks.jobs.error_record import classified, error_record
from cgk_tasks.jobs.retry import RetryConfig, next_delay
from cgk_tasks.runs.steps import Memo, StepFailure, StepKind, StepRecord, Suspension
from cgk_tasks.runs.text import storable_json, text_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.names import KnownNames
from cgk_tasks.workflows.suspension import WorkflowSuspended

log = structlog.get_logger("cgk_tasks.runs")

BEGIN: Final = "$begin"
_MAX_REASON: Final = 300


@dataclass(slots=True)
class Call:
    """A step that the function asks for. memo: as it is on record, if it is."""

    name: str
    nth: int
    place: int
    kind: StepKind
    memo: Memo | None

    @property
    def attempts(self) -> int:
        return self.memo.attempts if self.memo is not None else 0

    def ended(self, state: Any, *, result: str | None = None, error: str | None = None, seconds: float = 0.0) -> Memo:
        failed = self.attempts + (state == "failed")
        return Memo(self.name, self.nth, self.place, self.kind, state, result, error, failed, seconds=seconds)

    def waiting(
        self, *, until: datetime | None = None, delay_seconds: float | None = None, awaits: tuple[str, ...] = ()
    ) -> Memo:
        return Memo(
            self.name, self.nth, self.place, self.kind, "waiting", awaits=awaits, until=until,
            delay_seconds=delay_seconds, attempts=self.attempts,
        )  # fmt: skip


class Leg:
    """workflow: its id, for what people read. begin: what is kept before the first memo, of a workflow. names: those
    that its function has. retry: of steps that have none of their own.
    """

    def __init__(
        self, record: StepRecord, workflow: str, names: KnownNames, retry: RetryConfig, memos: Sequence[Memo],
        begin: Memo | None = None,
    ) -> None:  # fmt: skip
        self.record = record
        self._workflow = workflow
        self._names = names
        self._retry = retry
        self._begin = next((memo for memo in memos if memo.kind == "begin"), None)
        self._new_begin = begin
        self._memos = {(memo.name, memo.nth): memo for memo in memos if memo.kind != "begin"}
        self._unasked = dict.fromkeys(self._memos)
        self._calls: Counter[str] = Counter()
        self._places = max((memo.place for memo in memos), default=0)
        self._on: set[str] = set()
        self._waits: dict[tuple[str, int], Memo] = {}
        self._reasons: dict[tuple[str, int], str] = {}
        self._failure: StepFailure | None = None

    # ---- asking for steps

    @property
    def is_replaying(self) -> bool:
        """Whether steps are on record that the function has not asked for yet."""
        return bool(self._unasked)

    @property
    def begin(self) -> Memo | None:
        """The step before all others that is still to be written."""
        return self._new_begin if self._begin is None else None

    @contextmanager
    def call(self, name: str, kind: StepKind) -> Iterator[Call]:
        """The next call with this name, which no other may have while the block runs.

        Raises ConfigurationError, WorkflowChangedError, PermanentError for too many steps.
        """
        if name in self._on:
            raise ConfigurationError(
                f"Two steps called {name!r} are on at the same time.",
                hint="Steps that run at the same time need names of their own, such as f'send-{number}'.",
            )
        self._on.add(name)
        try:
            yield self._ask(name, kind)
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
        """Put a step that is over on record. Returns it as it stands there. Raises LostRunError."""
        begin = self.begin
        kept = self.record.keep(memo, begin, session)
        self._has_kept(call, kept, begin)
        return kept

    def _has_kept(self, call: Call, memo: Memo, begin: Memo | None) -> None:
        self._memos[call.name, call.nth] = memo
        if begin is not None:
            self._begin = begin

    def error_of(self, memo: Memo) -> StepFailedError:
        error = json.loads(memo.error or "{}")
        return StepFailedError(memo.name, error.get("code", "UNKNOWN_ERROR"), error.get("message", ""))

    def failed(self, call: Call, exc: Exception, retry: RetryConfig | None, seconds: float) -> Memo | None:
        """What follows from a step's error: None if it is tried again, which a later leg does; else how it ended."""
        if isinstance(exc, RetryLater):
            self._put_off(call, exc)
            return None
        policy, attempt, found = retry or self._retry, call.attempts + 1, classified(exc)
        error = error_record(exc, attempt, found)
        began = call.memo.begun_at if call.memo is not None else None
        delay = next_delay(
            policy, attempt, max_attempts=policy.max_attempts, classification=found,
            elapsed_seconds=(known_now() - began).total_seconds() if began else 0.0,
        )  # fmt: skip
        if delay is None:
            return call.ended("failed", error=error, seconds=seconds)
        memo = Memo(
            call.name, call.nth, call.place, call.kind, "begun", error=error, attempts=attempt, delay_seconds=delay,
            seconds=seconds,
        )  # fmt: skip
        self._wait(call, memo, f"step {call.name}")
        if self._failure is None or self._failure.error is None or delay < self._failure.delay_seconds:
            self._failure = StepFailure(delay, exc, error, found.code)
        return None

    def _put_off(self, call: Call, exc: RetryLater) -> None:
        memo = Memo(
            call.name, call.nth, call.place, call.kind, "begun", attempts=call.attempts, delay_seconds=exc.delay_seconds
        )
        self._wait(call, memo, text_of(exc.reason) or f"step {call.name}")
        if self._failure is None:
            self._failure = StepFailure(exc.delay_seconds, exc)

    # ---- waits

    def is_put_off(self, call: Call) -> bool:
        """Whether a step that failed, or put itself off, is not due yet."""
        memo = call.memo
        if memo is None or memo.state != "begun" or memo.until is None or memo.is_due:
            return False
        self._wait(call, memo._replace(delay_seconds=None), f"step {call.name}")
        delay = max((memo.until - known_now()).total_seconds(), 0.0)
        if self._failure is None or delay < self._failure.delay_seconds:
            self._failure = StepFailure(delay, WorkflowSuspended())
        return True

    def is_slept(self, call: Call, until: datetime | float) -> bool:
        """Whether the time of a sleep is over; else it is noted that the run waits for it. until: or for how long."""
        if call.memo is not None:
            if call.memo.is_due:
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
        begin = self.begin
        found = self.record.take(call.ended("done"), mail, begin)
        if found is not None:
            self._has_kept(call, found, begin)
            return found
        if call.memo is None:
            wait = call.waiting(delay_seconds=timeout, awaits=(mail,))
        elif call.memo.is_due:
            return self.keep(call, call.ended("timed_out"))
        else:
            wait = call.waiting(until=call.memo.until, awaits=(mail,))
        self._wait(call, wait, reason)
        return None

    def _wait(self, call: Call, memo: Memo, reason: str) -> None:
        self._waits[call.name, call.nth] = memo
        self._reasons[call.name, call.nth] = reason

    @property
    def waits(self) -> bool:
        return bool(self._waits)

    def suspended(self) -> WorkflowSuspended:
        """What ends the leg: all that it waits for."""
        memos = list(self._waits.values())
        if self.begin is not None:
            memos.insert(0, self.begin)
        reason = ", ".join(self._reasons.values())[:_MAX_REASON]
        deferral = storable_json({"code": "WAITS", "reason": reason})
        return WorkflowSuspended(Suspension(tuple(memos), self._failure, deferral))


def sleep_seconds(name: str, delay: float | timedelta) -> float:
    """Raises ConfigurationError for what is no duration."""
    try:
        seconds = as_seconds(delay)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{name!r} cannot last {delay!r}.", hint="Give seconds from 0, or a timedelta.")
    return min(seconds, LONGEST_WAIT_SECONDS)
