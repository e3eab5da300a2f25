"""One leg of a run: its memos, which of them the function has asked for, and what it waits for.

Nothing here knows where memos are kept, or whether the function is a coroutine.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, PermanentError, WorkflowChangedError
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runs.steps import INTERNAL, Memo, StepFailure, StepKind, StepRecord, Suspension
from cgk_tasks.runs.text import storable_json
from cgk_tasks.runs.undo import COMPENSATES, undo_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.calls import Call, Compensation
from cgk_tasks.workflows.names import KnownNames
from cgk_tasks.workflows.suspension import WorkflowStopped, WorkflowSuspended

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
        self.retry = retry
        self._unwritten: dict[tuple[str, int], Memo] = {}
        if begin is not None and not any(memo.kind == "begin" for memo in memos):
            self._unwritten[begin.name, begin.nth] = begin
        self.undo = undo_of(memos)
        """How the run ends when what it has done is undone; None as long as nothing is to be."""
        self._memos = {(memo.name, memo.nth): memo for memo in memos if memo.kind not in INTERNAL}
        self._compensations: list[Compensation] = []
        self._is_undoing = False
        self._unasked = dict.fromkeys(key for key, memo in self._memos.items() if memo.kind != "compensate")
        self._calls: Counter[str] = Counter()
        self._places = max((memo.place for memo in memos), default=0)
        self._on: set[str] = set()
        self._waits: dict[tuple[str, int], Memo] = {}
        self._reasons: dict[tuple[str, int], str] = {}
        self._children: list[NewRun] = []
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
        if not _may_have_happened(memo):
            self.check_not_undone()
        if memo is not None:
            if memo.kind != kind:
                raise WorkflowChangedError(self._workflow, [name])
            return Call(*key, memo.place, kind, memo)
        self.check_unasked()
        self._places += 1
        if not self._is_undoing:
            self._check_number(self._places)
        return Call(*key, self._places, kind, None)

    def check_unasked(self) -> None:
        """What the function cannot ask for any more was done by other code: then nothing new is begun.

        Raises WorkflowChangedError. At a wait of a coroutine nothing more can be said: what is awaited outside of steps
        may be cut off before it comes to all of them.
        """
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

    def keep_later(self, memo: Memo) -> None:
        """Put a step that is over on record with the next one."""
        with self._lock:
            self._unwritten[memo.name, memo.nth] = memo

    def _has_kept(self, call: Call, memo: Memo, before: Sequence[Memo]) -> None:
        with self._lock:
            self._memos[call.name, call.nth] = memo
            for one in before:
                self._unwritten.pop((one.name, one.nth), None)

    def take(self, call: Call, make: Callable[[str], Memo], mail: str) -> Memo | None:
        """The step that the oldest mail of this name makes, on record; None if there is none."""
        before = self._before()
        found = self.record.take(make, mail, before)
        if found is not None:
            self._has_kept(call, found, before)
        return found

    def gather(
        self, call: Call, make: Callable[[Mapping[str, str]], Memo | None], children: Sequence[str]
    ) -> Memo | None:
        """The step that the ends of child runs make, on record; None if they make none yet."""
        before = self._before()
        found = self.record.gather(make, children, before)
        if found is not None:
            self._has_kept(call, found, before)
        return found

    # ---- what undoes them

    def compensate(self, compensation: Compensation) -> None:
        """What undoes a step if the run fails or is cancelled. That there is such a thing goes on record first."""
        with self._lock:
            if not self.record.compensates:
                before = self._before()
                self.record.keep(COMPENSATES, before)
                self.record.compensates = True
                for one in before:
                    self._unwritten.pop((one.name, one.nth), None)
            self._compensations.append(compensation)

    def check_not_undone(self) -> None:
        """Raises WorkflowStopped where nothing is to be done any more but to undo."""
        if self.undo is not None and not self._is_undoing:
            raise WorkflowStopped

    def begin_undoing(self) -> list[Compensation]:
        """From now on steps are begun again. What there is to do, in its order. Raises WorkflowChangedError."""
        self.check_goes_on()
        self.check_unasked()
        said = self._calls + Counter(one.name for one in self._compensations)
        gone = [memo.name for memo in self._memos.values() if memo.kind == "compensate" and memo.nth > said[memo.name]]
        if gone:  # under another name it would be undone twice
            raise WorkflowChangedError(self._workflow, list(dict.fromkeys(gone)))
        self._is_undoing = True
        return self._compensations[::-1]

    # ---- what it ends with

    def wait(self, call: Call, memo: Memo, reason: str, children: Sequence[NewRun] = ()) -> None:
        """The leg ends when nothing else goes on, and leaves the step like this, and these child runs."""
        self._children += children
        self._waits[call.name, call.nth] = memo
        self._reasons[call.name, call.nth] = reason

    def goes_on(self, failure: StepFailure) -> None:
        """Of several steps that are tried again, the first that is due says when, and one with an error says why."""
        if self._failure is not None:
            known = self._failure
            told = known if known.error is not None else failure
            failure = replace(told, delay_seconds=min(known.delay_seconds, failure.delay_seconds))
        self._failure = failure

    @property
    def waits(self) -> bool:
        """Whether there is something for which the run has to wait."""
        return bool(self._waits)

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
        return WorkflowSuspended(Suspension(tuple(memos), failure, deferral, tuple(self._children)))


def _may_have_happened(memo: Memo | None) -> bool:
    """Whether a step is over, or is an effect of which that is to be found out, so that it can be undone."""
    return memo is not None and (memo.is_over or (memo.kind == "effect" and memo.state in {"intent", "waiting"}))


def _seconds_left(memos: Sequence[Memo]) -> Iterator[float]:
    for memo in memos:
        if memo.delay_seconds is not None:
            yield memo.delay_seconds
        elif memo.until is not None:
            yield max((memo.until - known_now()).total_seconds(), 0.0)
