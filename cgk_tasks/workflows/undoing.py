"""Compensation: a run that fails for good, or is cancelled, undoes what it has done, the last first.

That it is to be undone is on record before anything is. From then on each leg takes the function along what is on
record, so that it says again what its compensations are, and does those that are left, as steps.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from cgk_tasks.errors import PermanentError, RunCancelledError, StepFailedError
from cgk_tasks.jobs.error_record import classified, error_record
from cgk_tasks.runs.text import storable_json
from cgk_tasks.runs.undo import Undo
from cgk_tasks.workflows.results import error_of
from cgk_tasks.workflows.suspension import WorkflowUndone

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.workflows.doing import Doing
    from cgk_tasks.workflows.leg import Leg

COMPENSATION_FAILED = "COMPENSATION_FAILED"


async def undo(leg: Leg, doing: Doing, ctx: JobContext[Any], why: Undo) -> NoReturn:
    """Do the compensations that are left. Raises WorkflowUndone, and WorkflowSuspended where one is tried again."""
    done: list[str] = []
    for one in leg.begin_undoing():
        with leg.call(one.name, "compensate") as call:
            try:
                memo = await doing.step(call, Any, one.function, one.args, one.retry)
            except StepFailedError as exc:
                raise _failed(ctx, why, one.name, done, exc) from exc
            if memo is None:
                raise leg.suspended()
            if memo.state == "failed":
                raise _failed(ctx, why, one.name, done, error_of(memo))
            done.append(one.name)
    raise _ended(ctx, why, done)


def _ended(ctx: JobContext[Any], why: Undo, done: list[str]) -> WorkflowUndone:
    if why.state == "cancelled":
        exc: Exception = RunCancelledError(ctx.run_id)
        error = json.loads(error_record(exc, ctx.attempt, classified(exc)))
    else:
        error = json.loads(why.error or "{}")
        exc = PermanentError(error.get("message", ""), why.code or "UNKNOWN_ERROR")
    return WorkflowUndone(why.state, storable_json({**error, "compensated": done}), why.code, exc)


def _failed(ctx: JobContext[Any], why: Undo, name: str, done: list[str], error: StepFailedError) -> WorkflowUndone:
    exc = PermanentError(
        f"Compensation {name!r} failed with {error.code}: {error.message.rstrip('.')}.",
        COMPENSATION_FAILED,
        hint="What comes before it is not undone either: see to both.",
    )
    record = json.loads(error_record(exc, ctx.attempt, classified(exc)))
    kept = {**record, "compensated": done, "cause": {"state": why.state, "code": why.code}}
    return WorkflowUndone("failed", storable_json(kept), COMPENSATION_FAILED, exc)
