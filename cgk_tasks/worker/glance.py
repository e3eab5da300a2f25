"""One look of the leader at all that it may have to do: a single cheap statement, so that it can look often."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.sql.postgres import autocommit, fetch, glance, statements

SQL = statements("dispatch")


class Found(NamedTuple):
    """What there is. at: when that was asked (monotonic). seconds: until the next run is due, by PostgreSQL's clock;
    None if there is none.
    """

    at: float
    seconds: float | None
    are_unpublished: bool
    are_expired: bool = True
    lanes_wait: bool = True
    are_pauses: bool = True
    is_awaited: bool = True
    are_guards: bool = True
    are_workers: bool = True
    """More than one."""
    are_dispatched: bool = True
    are_running: bool = True
    are_held: bool = True

    @property
    def needs_passes(self) -> bool:
        """Whether lanes are to be looked at: some wait, or runs are held, or on for longer than was expected."""
        return self.lanes_wait or self.are_held or self.are_running or self.are_guards

    @property
    def is_quiet(self) -> bool:
        """Whether nothing runs, may start or waits for anything but its time."""
        is_due = self.seconds is not None and self.seconds <= 0
        may_start = is_due or self.are_unpublished or self.are_dispatched
        return not (may_start or self.are_running or self.are_expired or self.needs_passes)


def look() -> Found:
    """Raises psycopg.Error. In a database that lacks the tables of a later migration there may be anything."""
    at = time.monotonic()
    with autocommit() as connection:
        if SWITCH.current().has_guards:  # the latest of these tables
            return _found(at, glance(connection, SQL["glance"]))
        found = fetch(connection, SQL["next_due"])[0]
    return Found(at, found["seconds"], found["are_unpublished"])


def look_shortly(last: Found) -> Found:
    """The same, but whether runs are dispatched, running or held is taken from the last look. Raises psycopg.Error."""
    if not SWITCH.current().has_guards:
        return look()
    at = time.monotonic()
    with autocommit() as connection:
        found = _found(at, glance(connection, SQL["short_glance"]))
    return found._replace(are_dispatched=last.are_dispatched, are_running=last.are_running, are_held=last.are_held)


def _found(at: float, columns: Sequence[str | None]) -> Found:
    seconds, *others = columns
    return Found(at, None if seconds is None else float(seconds), *(value == "t" for value in others))
