"""The steps of a workflow as the page of its run shows them: a line each, with its time on a common scale."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from cgk_tasks.runs.shown_steps import ShownStep, steps_of
from cgk_tasks.sql.clock import known_now

if TYPE_CHECKING:
    from cgk_tasks.events.redaction import Redaction
    from cgk_tasks.sql.postgres import AnyConnection

_LEAST_WIDTH: Final = 0.5


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step, and where its bar begins and how long it is, in percent of the run's time. seconds: None if it is on."""

    step: ShownStep
    seconds: float | None
    begins: float
    width: float


def step_lines(
    connection: AnyConnection, run_id: str, hide: Redaction | None, closed_at: datetime | None
) -> tuple[StepLine, ...]:
    """The steps of a run, which ends at `closed_at` or goes on."""
    steps = steps_of(connection, run_id, hide)
    if not steps:
        return ()
    first, end = min(step.began_at for step in steps), closed_at or known_now()
    whole = max((end - first).total_seconds(), 0.001)
    return tuple(_line(step, first, end, whole) for step in steps)


def _line(step: ShownStep, first: datetime, end: datetime, whole: float) -> StepLine:
    begins = 100 * (step.began_at - first).total_seconds() / whole
    seconds = (step.ended_at - step.began_at).total_seconds() if step.ended_at else None
    lasts = max(((step.ended_at or end) - step.began_at).total_seconds(), 0.0)
    begins = min(max(begins, 0.0), 100 - _LEAST_WIDTH)
    return StepLine(step, seconds, begins, min(max(100 * lasts / whole, _LEAST_WIDTH), 100 - begins))
