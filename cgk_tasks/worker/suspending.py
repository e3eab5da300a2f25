"""Runs that a leg leaves open: they wait, or a step of them is tried again. With what they remember, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from cgk_tasks.flow.accept import dispatch, publish
from cgk_tasks.flow.awaited_events import look_for
from cgk_tasks.runs import ends, event_waits, insertion, invoked, mails, steps, store
from cgk_tasks.runs.event_waits import EventKey
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.runs.steps import Suspension, Wait
from cgk_tasks.runs.undo import Undo
from cgk_tasks.runs.undo import begin as begin_undo
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import AnyConnection
from cgk_tasks.worker.steps import fence_of

if TYPE_CHECKING:
    from cgk_tasks.runs.ends import PutBack
    from cgk_tasks.runs.store import Claimed
    from cgk_tasks.worker.attempt import Attempt
    from cgk_tasks.worker.outcome import Outcome


def suspend(run: Claimed, job_id: str, suspension: Suspension, patience: float) -> bool:
    """The run waits, and no worker holds it any more. False if it is not this attempt's, or is cancelled."""
    wait = Wait(suspension.memos, job_id, suspension.deferral)
    return _leave(run, suspension, lambda connection: steps.suspend(connection, fence_of(run), wait), patience)


def left_by(attempt: Attempt, outcome: Outcome) -> Suspension | None:
    """What an attempt leaves after which its run goes on later."""
    if outcome.suspension is not None:
        return outcome.suspension
    record = attempt.ctx.step_record
    memo = record.at_failure if record is not None else None
    return Suspension((memo,)) if outcome.kind == "retry" and memo is not None else None


def put_back_with(run: Claimed, back: PutBack, suspension: Suspension, patience: float) -> bool:
    """The run goes on later, and remembers this. False if it is not this attempt's, or is cancelled."""
    fence = fence_of(run)

    def write(connection: AnyConnection) -> bool:
        steps.keep(connection, fence, suspension.memos)  # what is over already stays so, and the next leg sees it
        return bool(ends.put_back(connection, fence.worker_id, [back]))

    return _leave(run, suspension, write, patience)


def undo_first(run: Claimed, attempt: Attempt, undo: Undo, patience: float) -> bool:
    """Let the run undo what it has done before it ends. False if it has nothing to undo, or has undone it, or is not
    this attempt's.
    """
    record = attempt.ctx.step_record
    if record is None or not record.compensates or (record.is_undone and undo.state == "failed"):
        return False

    due: list[Dispatch] = []

    def write(connection: AnyConnection) -> bool:
        store.cancel_children(connection, [run.id])
        due[:] = begin_undo(connection, fence_of(run), attempt.job.id, undo)
        return bool(due)

    is_undone = _all_or_nothing(write, patience)
    if is_undone:
        dispatch(due)
    return is_undone


def _leave(run: Claimed, left: Suspension, write: Callable[[AnyConnection], bool], patience: float) -> bool:
    """Write that the run is left, what it waits for, and the child runs that it invokes. It goes on at once where its
    mail is there already.

    write: returns whether the run is this attempt's.
    """
    awaits = [name for memo in left.memos if memo.wakes == "any" for name in memo.awaits]
    parents = [(memo.name, memo.nth, memo.wakes == "first_failure") for memo in left.memos if memo.wakes != "any"]
    events = [key for name in awaits if (key := EventKey.of_mail(name)) is not None]
    woken: list[Dispatch] = []

    def leave(connection: AnyConnection) -> bool:
        woken.clear()
        if not write(connection):
            return False
        if left.children:
            insertion.insert(connection, left.children, {})
        if events:
            event_waits.wait(connection, fence_of(run), events)
        if awaits:
            woken.extend(mails.wake_at_once(connection, run.id, awaits))
        if parents and not woken:
            woken.extend(invoked.wake_at_once(connection, run.id, parents))
        return True

    is_left = _all_or_nothing(leave, patience)
    if is_left and woken:
        dispatch(woken)
    if is_left and left.children:
        publish(left.children)
    if is_left and events and not woken:
        look = partial(look_for, run.id, run.tenant_id, events, dispatch)
        postgres.retry_while_unavailable(look, patience)  # should this process end here, the dispatcher looks
    return is_left


def _all_or_nothing(write: Callable[[AnyConnection], bool], patience: float) -> bool:
    """A transaction that is rolled back where `write` says that the run is not this attempt's."""

    def once() -> bool:
        with postgres.transaction() as connection:
            is_done = write(connection)
            if not is_done:
                raise psycopg.Rollback
        return is_done

    return postgres.retry_while_unavailable(once, patience)
