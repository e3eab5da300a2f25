"""Actions on many runs: batch by batch, at a pace, until done or stopped.

Each batch is one transaction: what it does, the audit's counts and the position commit together. So the audit is right
even if the process ends in the middle, and whoever resumes the action begins behind its last batch.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.accept import UnitOfWork, unit_of_work
from cgk_tasks.sql.postgres import Connection, is_away, retry_conflicts, transaction
from cgk_tasks.tenancy.audit import Via

log = structlog.get_logger("cgk_tasks.dashboard")

DEFAULT_PACE: Final = 20
FASTEST_PACE: Final = 1000
"""Runs a second."""

_LARGEST_BATCH: Final = 100


class Batch(NamedTuple):
    """What was done with the next runs. position: where the following batch begins; None at the end. left: how many
    were left alone, by why.
    """

    position: str | None
    done: int
    left: Mapping[str, int] = {}


Work = Callable[[Connection, audit.Entry, str | None, int], Batch]
"""Does what is to be done with the runs behind a position, at most so many, in the caller's transaction."""


@dataclass(frozen=True, slots=True)
class LongAction:
    """An action as it begins. name, subject, details: as the audit has them. expected: how many runs it is about.
    details: what is needed to resume it; its position, if it was begun before.
    """

    name: str
    subject: str
    tenant_id: str | None
    expected: int
    pace: int
    details: Mapping[str, Any]
    work: Callable[[audit.Entry], Work]


def checked_pace(pace: int) -> int:
    """The pace, if there is one like that. Raises InvalidOptionError."""
    if not 1 <= pace <= FASTEST_PACE:
        raise InvalidOptionError("pace", f"must be 1 to {FASTEST_PACE} runs a second, not {pace}")
    return pace


def record(user: User, action: LongAction, via: Via = "dashboard") -> audit.Entry:
    """Write into the audit that it begins. Nothing is done yet."""
    return audit.begin(
        user, action.name, subject=action.subject, tenant_id=action.tenant_id, expected=action.expected,
        details={**action.details, "pace": action.pace}, via=via,
    )  # fmt: skip


def begin(user: User, action: LongAction) -> int:
    """Start it in a thread of this process. Returns its number in the audit, where it can be watched and stopped."""
    entry = record(user, action)
    threading.Thread(target=perform, args=(entry, action), name=f"{action.name} {entry.id}", daemon=True).start()
    return entry.id


def resume(user: User, action_id: int, restore: Mapping[str, Callable[[audit.Line], LongAction]]) -> int | None:
    """Do the rest of an action whose process ended in the middle, as an action of its own. Returns its number.

    restore: by the name of an action, what makes the rest of it out of its line in the audit. None if there is nothing
    to resume: the action has ended, is under way, or somebody else has just resumed it.
    """
    lost = next(iter(audit.lines(action_id=action_id, limit=1)), None)
    if lost is None or not lost.is_lost or lost.action not in restore:
        return None
    rest = restore[lost.action](lost)  # first, since it may fail; if the process lives after all, nothing is taken over
    return begin(user, rest) if audit.take_over_lost(user, action_id) else None


def perform(entry: audit.Entry, action: LongAction, told: Callable[[int], None] = lambda _done: None) -> audit.Outcome:
    """Do it here, until it is done or somebody stops it. Returns how it ended, which the audit says as well.

    told: is called with how many runs it has reached, after each batch.
    """
    work, left = action.work(entry), Counter[str]()
    position: str | None = action.details.get("position")
    try:
        while True:
            begun = time.monotonic()
            batch, stop = _step(entry, work, position, left, min(action.pace, _LARGEST_BATCH))
            position = batch.position
            told(entry.affected)
            if position is None or stop:
                return _ended(entry, "done" if position is None else "aborted", left)
            time.sleep(max(0.0, batch.done / action.pace - (time.monotonic() - begun)))
    except audit.TakenOverError as exc:
        log.warning("action_taken_over", action=entry.id, reason=str(exc))
        return "failed"
    except Exception as exc:
        log.exception("long_action_failed", action=entry.id)
        if is_away(exc):  # it is unfinished, and can be resumed
            return "failed"
        audit.end(entry, "failed", f"{type(exc).__name__}; what was done until then stays")
        return "failed"


def _step(entry: audit.Entry, work: Work, position: str | None, left: Counter[str], size: int) -> tuple[Batch, bool]:
    """The next batch, and whether somebody wants the action to stop."""

    def attempt() -> tuple[Batch, bool, UnitOfWork]:
        with transaction() as connection, unit_of_work(connection) as unit:
            batch = work(connection, entry, position, size)
            details = {"position": batch.position or position, "left": left + Counter(batch.left)}
            stop = audit.progress(connection, entry, entry.affected + batch.done, details)
        return batch, stop, unit

    batch, stop, unit = retry_conflicts(attempt)
    entry.affected += batch.done
    left.update(batch.left)
    unit.publish()
    return batch, stop


def _ended(entry: audit.Entry, outcome: audit.Outcome, left: Mapping[str, int]) -> audit.Outcome:
    audit.end(entry, outcome, left_alone(left))
    return outcome


LEFT_ALONE: Final[Mapping[str, str]] = {
    "open": "not closed yet",
    "closed": "closed already",
    "completed": "completed",
    "again": "run again already",
    "discarded": "discarded",
    "parent": "with a job that did not complete, which is a run of its own",
    "child": "part of a run that matches too",
    "requested": "being cancelled already",
    "changed": "no longer matching",
    "locked": "locked by an open transaction",
    "later": "sent or closed after the action began",
    "tenant": "of a tenant that is gone",
    "refused": "could not be run again",
}
"""Why runs are left alone."""


def left_alone(left: Mapping[str, int]) -> str:
    """How many were left alone and why, in one line; empty if none was."""
    return ", ".join(f"{runs:,} {LEFT_ALONE.get(why, why)}" for why, runs in sorted(left.items()) if runs)
