"""The points at which the process of a proof may die.

A process that is killed leaves in PostgreSQL what it has committed, and nothing else. Here it is an exception of a kind
that no `except Exception` catches; and from then on its process, which goes on to unwind, is refused every statement,
every commit and every message. So nothing that catches the exception all the same can write.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from cgk_tasks.broker.envelope import NOTHING_WAITS, Message, Waiting
from cgk_tasks.broker.publisher import Lengths, SafePublisher
from cgk_tasks.runs.steps import OVER
from cgk_tasks.runtime import Runtime, current_runtime
from cgk_tasks.sql import door
from cgk_tasks.sql.statements import Statement

_OF_THE_RECORD: Final = frozenset({"transitions", "steps", "mail", "runs", "groups"})
"""The files with the statements that are points. Others only read, or keep what a run does not depend on."""

_STEP: Final = ("steps.keep_step", "steps.keep_steps")


class Crash(BaseException):
    """The process dies here. Nothing of cgk-tasks ends an attempt in order because of it."""


class CrashPoints:
    """Those that a process passes. It dies at the one of the number `die_at`, counted from 0; None for never."""

    def __init__(self, runtime: Runtime, die_at: int | None = None) -> None:
        self._runtime = runtime
        self._die_at = die_at
        self._lock = threading.Lock()
        self._kept = threading.local()
        self._is_counting = False
        self._times: Counter[str] = Counter()
        self._firsts: dict[str, Callable[[], object]] = {}
        self.passed: list[str] = []
        self.died_at: str | None = None

    @property
    def is_dead(self) -> bool:
        return self.died_at is not None

    def pass_by(self, name: str) -> None:
        """Raises Crash, at this point or because the process is dead."""
        with self._lock:
            if self._is_counting and not self.is_dead:
                self._times[name] += 1
                nth = self._times[name]
                self.passed.append(name if nth == 1 else f"{name} ({nth})")
                if len(self.passed) - 1 == self._die_at:
                    self.died_at = self.passed[-1]
        self.check_alive()
        if self._is_counting and (action := self._firsts.pop(name, None)) is not None:
            action()

    def at_first(self, name: str, action: Callable[[], object]) -> None:
        """Do something when this point is passed next, before the process goes on."""
        self._firsts[name] = action

    def check_alive(self) -> None:
        """Raises Crash."""
        if self.died_at is not None:
            raise Crash(self.died_at)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Points count while the block runs: while the process works on a run."""
        self._is_counting = True
        try:
            yield
        finally:
            self._is_counting = False

    # ---- what there is to pass by

    def watch(self) -> None:
        """Statements and commits of the process are points from now on, until `unwatch`."""
        from sqlalchemy import event

        from cgk_tasks.tenancy.database import TenantSession

        door.observe(self._after, before=self._before)
        event.listen(TenantSession, "before_commit", self._commits)
        event.listen(TenantSession, "after_commit", self._committed)

    def unwatch(self) -> None:
        from sqlalchemy import event

        from cgk_tasks.tenancy.database import TenantSession

        door.forget_observer(self._after)
        event.remove(TenantSession, "before_commit", self._commits)
        event.remove(TenantSession, "after_commit", self._committed)

    def _before(self, statement: Statement, values: Any) -> None:
        if current_runtime() is not self._runtime:
            return
        if statement.file not in _OF_THE_RECORD:
            self.check_alive()
        elif statement.label in _STEP:
            kept = self._kept.steps = _steps(values)
            over = any(state in OVER for state in _listed(values["state"]))
            self.pass_by(f"after {kept}, before {statement.label}" if over else f"before the record of {kept}")
        else:
            self.pass_by(f"before {statement.label}")

    def _after(self, statement: Statement, _seconds: float, error: BaseException | None) -> None:
        if error is None and statement.file in _OF_THE_RECORD and current_runtime() is self._runtime:
            what = f"the record of {self._kept.steps}" if statement.label in _STEP else statement.label
            self.pass_by(f"after {what}")

    def _commits(self, _session: Any) -> None:
        if current_runtime() is self._runtime:
            self.check_alive()

    def _committed(self, session: Any) -> None:
        if current_runtime() is self._runtime and not session.in_nested_transaction():
            self.pass_by("after the commit of what was written with ctx.db")


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    """Of the statement for one step, and of that for several."""
    return [value] if isinstance(value, str) else value


def _steps(values: Any) -> str:
    """The steps that a statement keeps, in words."""
    given = zip(_listed(values["name"]), _listed(values["state"]), strict=True)
    own = [f"{_KINDS.get(state, 'step')} {name!r}" for name, state in given if not name.startswith("$")]
    return ", ".join(own) or "what the run begins with"


_KINDS: Final = {"waiting": "the wait for", "intent": "the intent of effect"}


class PointedPublisher(SafePublisher):
    """Loses every message. A dispatch is a point before and after it: the proof itself brings runs to their process, as
    the dispatcher does with those whose message was lost.
    """

    def __init__(self, points: CrashPoints) -> None:
        super().__init__("")
        self._points = points

    def prepare(self, messages: Sequence[Message]) -> None: ...

    def publish(self, messages: Sequence[Message]) -> Lengths:
        if messages:
            self._points.pass_by("before a dispatch")
            self._points.pass_by("after a dispatch")
        return {}

    def oldest_waiting(self, queue: str, priority: int) -> Waiting | None:  # noqa: ARG002 - as the others
        return NOTHING_WAITS

    def ping(self) -> None: ...
    def close(self) -> None: ...
