"""Events that workflows wait for: kept with their runs, and brought to whoever waits.

The sender commits an event, and then looks for runs that wait for it; a run commits that it waits, and then looks for
events since it was made. So one of them sees the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import psycopg

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.logger import get_logger
from cgk_tasks.runs import event_waits
from cgk_tasks.runs.event_waits import EventKey, EventMail
from cgk_tasks.runs.models import Dispatch, NewRun
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import AnyConnection, autocommit, short_transaction

log = get_logger("cgk_tasks.sender")

_TRUST_SECONDS = 2.0
_MOST_MISSED = 1000
_SWEEP_MINUTES = 5
_LOCK_SECONDS = 1.0
"""A sender waits no longer for a workflow that somebody else's transaction has locked: the dispatcher brings it the
event once that has ended.
"""

Send = Callable[[Sequence[Dispatch]], object]


def _nobody_waits(_woken: Sequence[Dispatch]) -> None:
    """The run is on, so mail does not wake it."""


class Awaited:
    """Which events are waited for. Asked at each send, so it asks PostgreSQL only now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fields: dict[str, tuple[str, ...]] = {}
        self._ask_at = 0.0

    def among(self, runs: Sequence[NewRun]) -> bool:
        """Whether one of the runs is of an event that is waited for. Asked before there is a connection in hand."""
        fields = self.current()
        return bool(fields) and any(run.event in fields for run in runs)

    def current(self) -> Mapping[str, tuple[str, ...]]:
        """The fields by which workflows know events, as of a moment ago."""
        if time.monotonic() >= self._ask_at:
            self._ask()
        return self._fields

    @property
    def known(self) -> Mapping[str, tuple[str, ...]]:
        """The same as it is known, without asking."""
        return self._fields

    def _ask(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._ask_at:
                return
            self._ask_at = now + _TRUST_SECONDS
            try:
                with autocommit() as connection:
                    self._fields = event_waits.awaited(connection)
            except (psycopg.Error, ConfigurationError):
                pass  # the send itself tells what is wrong, if it needs PostgreSQL


AWAITED = Part(Awaited)


def _keyed(runs: Sequence[NewRun]) -> list[tuple[NewRun, list[EventKey]]]:
    """The events among the runs that happen now, with their keys: no replays, no child runs, and none for later. One
    whose run waits for further sends has happened all the same.
    """
    known = AWAITED.current().known
    if not known:
        return []
    return [
        (run, event_waits.keys_of(run, fields))
        for run in runs
        if (fields := known.get(run.event))
        and run.replay_of is None and run.parent_id is None
        and (run.state != "scheduled" or run.merge_key is not None)
    ]  # fmt: skip


def keep(connection: AnyConnection, runs: Sequence[NewRun]) -> None:
    """Keep the events that are waited for, in the transaction that makes their runs."""
    found = _keyed(runs)
    if found:
        event_waits.keep(connection, found)


def deliver(runs: Sequence[NewRun], send: Send) -> None:
    """After that transaction: bring the events to the runs that wait. What this misses, the dispatcher finds."""
    for run, keys in _keyed(runs):
        mail = EventMail(run.id, run.payload)
        for key in keys:
            try:
                with autocommit() as connection:
                    waiting = event_waits.waiting_for(connection, run.tenant_id, key)
            except psycopg.Error as exc:
                log.warning("event_not_delivered", _event=run.event, run=run.id, reason=str(exc).strip())
                continue
            for run_id in waiting:
                _deliver_to_one(run_id, key.mail, mail, send, run.event)


def _deliver_to_one(run_id: str, name: str, mail: EventMail, send: Send, event: str) -> None:
    try:
        deliver_to(run_id, name, mail, send, lock_seconds=_LOCK_SECONDS)
    except psycopg.Error as exc:
        log.warning("event_not_delivered", _event=event, run=mail.id, reason=str(exc).strip())


def deliver_to(
    run_id: str, name: str, mail: EventMail, send: Send, *, waits: bool = True, lock_seconds: float | None = None
) -> None:
    """Bring an event to a run, once. A run that has ended takes none; nor one that somebody has locked, unless it
    `waits`. lock_seconds: no longer than this; then psycopg's LockNotAvailable is raised.
    """
    from cgk_tasks.runs import mails  # few events are waited for

    woken = None
    with short_transaction(lock_seconds=lock_seconds) as connection:
        run = mails.lock_run(connection, run_id, waits=waits)
        if run is not None:
            found = mails.deliver(connection, run_id, run, name, mail.payload, mail.id, publishes=True)
            woken = found.woken
    if woken is not None:
        send([woken])


def look_for(run_id: str, tenant_id: str, keys: Sequence[EventKey], send: Send = _nobody_waits) -> bool:
    """Bring a run the events that were sent since it was made, and that it has not got. Whether there were any.

    send: for a run that has committed that it waits.
    """
    is_found = False
    for key in keys:
        with autocommit() as connection:
            found = event_waits.sent_since(connection, run_id, tenant_id, key)
        for mail in found:
            deliver_to(run_id, key.mail, mail, send)
            is_found = True
    return is_found


def sweep(send: Send, *, minutes: int = _SWEEP_MINUTES) -> None:
    """Bring what nobody has brought, because a sender or a run's process has ended before it looked. Safe to repeat.

    minutes: how far back, which the dispatcher looks often; now and then it looks at all that is kept. What somebody
    has locked is left for a later look.
    """
    if not AWAITED.current().current():
        return
    with autocommit() as connection:
        found = event_waits.missed(connection, _MOST_MISSED, minutes)
    for run_id, name, mail in found:
        deliver_to(run_id, name, mail, send, waits=False)
