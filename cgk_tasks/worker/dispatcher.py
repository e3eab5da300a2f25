"""The dispatcher: the leader among the workers dispatches the runs that no sender will.

Due and retried runs, runs whose publish failed, runs that the broker lost, runs whose tenant was resumed; and it closes
runs whose time to live has passed. Every statement is safe to run twice or by two leaders for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from cgk_tasks.admission.set_rules import set_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.admission.used_shares import UsedShares
from cgk_tasks.broker.envelope import NOTHING_WAITS, Waiting
from cgk_tasks.broker.publisher import get_patient_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import BrokerError
from cgk_tasks.flow import awaited_events, quarantine
from cgk_tasks.flow.accept import dispatch, unit_of_work
from cgk_tasks.flow.pauses import end_pauses
from cgk_tasks.runs import counts, ends, usage
from cgk_tasks.runs.ends import Closed
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.sql.duty_cycle import DutyCycle
from cgk_tasks.sql.locks import LOCK_SECONDS
from cgk_tasks.sql.postgres import (
    Connection,
    Row,
    autocommit,
    execute,
    fetch,
    glance,
    short_transaction,
    statements,
    transaction,
)
from cgk_tasks.tenancy.sync import is_sync_due, sync_and_log
from cgk_tasks.worker import counters
from cgk_tasks.worker.background import Background
from cgk_tasks.worker.glance import Found, look, look_shortly
from cgk_tasks.worker.housekeeping import run_housekeeping_and_log
from cgk_tasks.worker.skip_locked import SkipLocked

SQL, TRANSITIONS, ADMISSION = statements("dispatch"), statements("transitions"), statements("admission")
log = structlog.get_logger("cgk_tasks.dispatcher")

LEASE = "dispatcher"
_SETTLED_SECONDS = 3.0
"""After its start, when a worker has most to do, it begins with what is done each minute or hour."""
_HOUSEKEEPING_SECONDS = 3600.0
_ASK_FOR_LEASE_SECONDS = 1.0
_LOOK_FOR_LOST_SECONDS = 1.0
_LOOK_FOR_ALL_SECONDS = 30.0
"""Whatever the looks find, everything is gone through after such a time."""
_ANYTHING = Found(at=0.0, seconds=None, are_unpublished=True)
_COUNT_USAGE_SECONDS = 60.0
_COUNT_RUNS_SECONDS = 30.0
_LOOK_AT_FAILURES_SECONDS = 10.0
_BATCHES_A_LOOK = 10

RunClosed = Callable[[Closed], None]
"""What is told of each run that closes without a worker, in the transaction that closes it."""


class Dispatcher:
    """One tick after another, as long as this worker holds the lease."""

    def __init__(self, holder: str, on_closed: RunClosed | None = None) -> None:
        self._holder = holder
        self._on_closed = on_closed
        self._lease_seconds = get_settings().worker_timeout_seconds / 3
        self._leads_until = self._ask_for_lease_at = 0.0
        self._due_at: float | None = None
        self.found: Found | None = None
        """What the last look found, while this worker leads."""
        self._look_for_lost_at = self._look_for_all_at = 0.0
        self._look_at_failures_at = 0.0
        self._housekeeping_at = self._count_usage_at = self._count_runs_at = time.monotonic() + _SETTLED_SECONDS
        self._used_shares = UsedShares()
        self._background = Background()
        self._looks, self._looks_for_lost = DutyCycle(), DutyCycle()
        self._skip_locked = SkipLocked(log)

    @property
    def leads(self) -> bool:
        return time.monotonic() < self._leads_until

    @property
    def may_miss_workers(self) -> bool:
        """Whether there may be workers that are silent, or runs of some that are gone, as of the last look."""
        return self.found is None or self.found.are_workers or self.found.are_running

    @property
    def nothing_runs(self) -> bool:
        """Whether no run of any worker was on record as running at the last look of this one, which leads."""
        return self.leads and self.found is not None and not self.found.are_running

    def take_lease(self) -> bool:
        """Become or stay the leader. Another worker takes over a lease that was not renewed for a third of its
        timeout.
        """
        if self._leads_until - time.monotonic() > self._lease_seconds / 2:
            return True
        asked_at = time.monotonic()
        if not self.leads:
            if asked_at < self._ask_for_lease_at:
                return False
            self._ask_for_lease_at = asked_at + _ASK_FOR_LEASE_SECONDS
            if not self._is_free():
                return False
        values = {"name": LEASE, "holder": self._holder, "seconds": self._lease_seconds}
        with autocommit() as connection:
            taken = bool(fetch(connection, SQL["take_lease"], values))
        if taken and not self.leads:
            log.info("dispatcher_elected")
        self._leads_until = asked_at + self._lease_seconds if taken else 0.0
        return taken

    def _is_free(self) -> bool:
        self.found = None
        with autocommit() as connection:
            return glance(connection, SQL["lease_is_free"]) == ("t",)

    def drop_lease(self) -> None:
        self._leads_until = 0.0
        with autocommit() as connection:
            execute(connection, SQL["drop_lease"], {"name": LEASE, "holder": self._holder})

    @property
    def seconds_to_due(self) -> float | None:
        """Until the next run is due of those that were on record at the last look; None if there was none."""
        return None if self._due_at is None else self._due_at - time.monotonic()

    def dispatch_due(self) -> int:
        """Dispatch the runs whose time has come, and see when that of the next one does. Returns how many."""
        handed = self._dispatch("dispatch_due") if self._is_due else 0
        self._due_at = None
        next_due = self._next_due()
        if next_due is not None and next_due <= 0 and not handed:
            handed = self._dispatch("dispatch_due")
            next_due = self._next_due()
        # What is due and stays so while nothing is dispatched cannot be dispatched just now: the next turn takes care.
        if next_due is not None and (next_due > 0 or handed):
            self._due_at = time.monotonic() + next_due
        return handed

    @property
    def _is_due(self) -> bool:
        """Whether a run is due by now of which the last look knew: none is needed to see it."""
        to_due = self.seconds_to_due
        return to_due is not None and to_due <= 0

    def _next_due(self) -> float | None:
        """Seconds until the next run is due, by PostgreSQL's clock."""
        if self.found is None or self._looks.is_time:
            with self._looks.measured():
                self.found = look()
        else:
            self.found = look_shortly(self.found)
        return self.found.seconds

    def tick(self) -> int:
        """Do all that a leader does now and then. Returns how many runs were dispatched."""
        handed = self.dispatch_due()
        found = self.found
        if found is None or found.are_unpublished:
            handed += self._dispatch("dispatch_unpublished")
        now = time.monotonic()
        if found is None or now >= self._look_for_all_at:
            found = _ANYTHING
            self._look_for_all_at = now + _LOOK_FOR_ALL_SECONDS
            self._look_for_lost_at = 0.0
        if now >= self._look_for_lost_at:
            self._look_for_lost_at = now + _LOOK_FOR_LOST_SECONDS
            handed += self._look_after(found)
        if found.are_running:
            self._used_shares.note_now_and_then()
        if now >= self._count_usage_at and SWITCH.current().has_lanes:
            self._count_usage_at = now + _COUNT_USAGE_SECONDS
            self._background.start("usage", usage.count_and_log)
        if now >= self._count_runs_at:
            self._count_runs_at = now + _COUNT_RUNS_SECONDS
            self._background.start("counts", counts.count_and_log)
        if now >= self._look_at_failures_at and SWITCH.current().has_guards:
            window = get_settings().quarantine_window_seconds
            self._look_at_failures_at = now + min(_LOOK_AT_FAILURES_SECONDS, window / 4)
            quarantine.look()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + _HOUSEKEEPING_SECONDS
            self._background.start("housekeeping", run_housekeeping_and_log)
            awaited_events.sweep(dispatch, minutes=get_settings().mail_days * 24 * 60)
        return handed

    def _look_after(self, found: Found) -> int:
        """What is looked at once a second. Returns how many runs were dispatched again."""
        handed = 0
        if found.are_expired:  # a claim refuses what has expired, so this may be late
            self._skip_locked.tried("runs that have expired", self._expire, None)
        if found.are_pauses:
            self._skip_locked.tried("runs under pauses", self._look_at_pauses, None)
        if found.are_held:
            # While nobody makes passes, nobody else would let the runs of lanes go on.
            release = TRANSITIONS["release_unlaned" if SWITCH.current().is_on else "release_held"]
            with transaction() as connection:
                fetch(connection, ADMISSION["by_index"])
                execute(connection, release)
        if found.are_dispatched and self._looks_for_lost.is_time:
            handed = self._dispatch_lost()
        if found.is_awaited:
            awaited_events.sweep(dispatch)
        seconds = get_settings().tenants_refresh_seconds
        if is_sync_due(seconds):
            self._background.start("tenants", partial(sync_and_log, seconds))
        return handed

    def _dispatch(self, statement: str, values: dict[str, Any] | None = None) -> int:
        limit = get_settings().dispatch_batch
        publisher = get_patient_publisher()
        handed = 0
        # While the broker is down runs are not marked as dispatched only to take the mark back.
        while not publisher.rests:
            with autocommit() as connection:
                rows = fetch(connection, TRANSITIONS[statement], {"limit": limit, **(values or {})})
            due = dispatches(rows)
            if due and not dispatch(due, publisher):
                return handed  # the broker is down; a later tick tries again
            handed += len(due)
            if len(rows) < limit:
                return handed
        return handed

    def _dispatch_lost(self) -> int:
        """A run that was dispatched before the oldest message still in its list, and not claimed, was lost."""
        patience = get_settings().dispatch_patience_seconds
        with self._looks_for_lost.measured(), transaction() as connection:
            fetch(connection, ADMISSION["by_index"])
            lists = fetch(connection, SQL["unclaimed_lists"], {"patience": patience})  # before the look at the broker
        handed = 0
        for row in lists:
            try:
                waiting = get_patient_publisher().oldest_waiting(row["queue"], row["priority"])
            except BrokerError:
                return handed
            before = _before(waiting, row["now"], patience)
            if before is not None and row["oldest"] < before:
                found = self._dispatch(
                    "dispatch_lost",
                    {"queue": row["queue"], "priority": row["priority"], "before": before, "patience": patience},
                )
                if found:
                    log.warning("runs_dispatched_again", runs=found, queue=row["queue"])
                handed += found
        return handed

    def _expire(self) -> None:
        with short_transaction(60, lock_seconds=LOCK_SECONDS) as connection, unit_of_work(connection) as unit:
            rows = fetch(connection, TRANSITIONS["expire"], {"limit": get_settings().dispatch_batch})
            closed_without_worker(connection, rows, self._on_closed)
        unit.publish()

    def _look_at_pauses(self) -> None:
        """End those whose time is over, and cancel what waits under those that say so."""
        if SWITCH.current().flow_version:
            end_pauses()
        if not any(pause.drops for pause in set_rules().pauses):
            return
        limit = get_settings().dispatch_batch
        for _ in range(_BATCHES_A_LOOK):  # what is due must not wait for all of a long backlog
            with short_transaction(60, lock_seconds=LOCK_SECONDS) as connection, unit_of_work(connection) as unit:
                rows = fetch(connection, TRANSITIONS["cancel_paused"], {"limit": limit})
                closed_without_worker(connection, rows, self._on_closed)
            unit.publish()
            if len(rows) < limit:
                return


def _before(waiting: Waiting | None, now: datetime, patience: float) -> datetime | None:
    """Dispatches before this time are not in the broker any more; None if that cannot be told. Every time here is by
    PostgreSQL's clock.
    """
    if waiting is None:
        # This broker cannot show its oldest message: only a long silence is suspicious.
        return now - timedelta(seconds=60 * patience)
    if waiting is NOTHING_WAITS:
        return now
    at = waiting.dispatched_at or _sent_at(waiting)
    # A run is marked as dispatched before its message is there: allow for the time between.
    return None if at is None else at - timedelta(seconds=patience)


def _sent_at(waiting: Waiting) -> datetime | None:
    """When a message that came from a sender was dispatched, by the record of its runs."""
    with autocommit() as connection:
        found: datetime | None = fetch(connection, SQL["sent_at"], {"ids": list(waiting.run_ids)})[0]["sent_at"]
    return found


def dispatches(rows: list[Row]) -> list[Dispatch]:
    return [Dispatch.of(row) for row in rows if row["state"] == "pending"]


def closed_without_worker(connection: Connection, rows: list[Row], on_closed: RunClosed | None) -> None:
    """What follows when runs close that no worker holds: their parents, and what Celery does then."""
    if not rows:
        return
    if counted := counters.shared():
        for row in rows:
            counted.ended(row["event"], row["state"])
    closed = ends.closed_of(rows) + ends.close_parents(connection, ends.closed_of(rows))
    if on_closed is not None:
        for run in closed:
            on_closed(run)
