"""A step that a workflow's function asks for, and the memos that come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from cgk_tasks.runs.steps import Memo, StepKind

if TYPE_CHECKING:
    from cgk_tasks.jobs.retry import RetryConfig


@dataclass(slots=True)
class Call:
    """memo: the step as it is on record, if it is."""

    name: str
    nth: int
    place: int
    kind: StepKind
    memo: Memo | None

    @property
    def attempts(self) -> int:
        """How many have failed."""
        return self.memo.attempts if self.memo is not None else 0

    @property
    def is_over(self) -> bool:
        return self.memo is not None and self.memo.is_over

    def ended(
        self,
        state: Literal["done", "failed", "timed_out"],
        *,
        result: str | None = None,
        error: str | None = None,
        seconds: float = 0.0,
    ) -> Memo:
        failed = self.attempts + (state == "failed")
        return Memo(self.name, self.nth, self.place, self.kind, state, result, error, failed, seconds=seconds)

    def open(
        self,
        state: Literal["begun", "intent"],
        *,
        error: str | None = None,
        attempts: int | None = None,
        delay_seconds: float | None = None,
        seconds: float = 0.0,
    ) -> Memo:
        """The step before its next attempt. attempts: that have failed, if there is one more."""
        failed = self.attempts if attempts is None else attempts
        return Memo(
            self.name, self.nth, self.place, self.kind, state, None, error, failed, delay_seconds=delay_seconds,
            seconds=seconds,
        )  # fmt: skip

    def waiting(
        self,
        *,
        until: datetime | None = None,
        delay_seconds: float | None = None,
        awaits: tuple[str, ...] = (),
        result: str | None = None,
    ) -> Memo:
        return Memo(
            self.name, self.nth, self.place, self.kind, "waiting", result, None, self.attempts, awaits, until,
            delay_seconds,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compensation:
    """What undoes a step."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    retry: RetryConfig | None
