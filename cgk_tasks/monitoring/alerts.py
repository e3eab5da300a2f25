"""What the operators must hear about: looked for by the leading worker, and sent as the event `system.alert`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import structlog

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.catalog.system import SystemAlert
from cgk_tasks.client.api import send_job
from cgk_tasks.config import AlertKind, get_settings
from cgk_tasks.errors import IdempotencyConflictError
from cgk_tasks.schedules.failing_entries import failing_entries
from cgk_tasks.schedules.health import late_schedules, leading_beat
from cgk_tasks.sql.postgres import autocommit, fetch, fetch_or_before, statements
from cgk_tasks.tenancy.platform import PLATFORM_TENANT, ensure_platform_tenant
from cgk_tasks.worker.recovery import lost_workers

SQL, QUARANTINE = statements("metrics"), statements("quarantine")
log = structlog.get_logger("cgk_tasks.alerts")

EVERY_EVENT: Final = "*"
_OVERLAP_SECONDS = 60.0
"""A transaction that closes a run may commit after a look that should have seen it."""
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that is wrong. subject: what it is about; the same subject is told once in a window of time."""

    kind: AlertKind
    subject: str
    severity: Literal["critical", "error", "warning"]
    title: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    slot: int | None = None
    """The window that it belongs to; None: the one in which it is seen."""


class AlertWatch:
    """Looks at everything that CGK_ALERTS names. Several at once do no harm: an alert has an idempotency key."""

    def __init__(self) -> None:
        self._settings = get_settings()
        self._told: dict[tuple[str, str], float] = {}
        self._looked_at: float | None = None

    def look(self) -> int:
        """Send what is new. Returns how many alerts were sent. Raises psycopg.Error when PostgreSQL is away."""
        begun = time.monotonic()
        sent = sum(self._tell(alert) for kind in self._settings.alerts for alert in self._find(kind))
        self._looked_at = begun
        return sent

    def _find(self, kind: AlertKind) -> Iterator[Alert]:
        looks: dict[AlertKind, Callable[[], Iterator[Alert]]] = {
            "run_failed": self._failed_runs,
            "schedule_missed": _missed_schedules,
            "worker_lost": _lost_workers,
            "queue_age": self._old_queues,
            "tenant_quarantined": self._quarantines,
        }
        return looks[kind]()

    def _failed_runs(self) -> Iterator[Alert]:
        window, events = self._settings.alert_window_seconds, self._settings.alert_events
        ago = window if self._looked_at is None else time.monotonic() - self._looked_at + _OVERLAP_SECONDS
        values = {
            "window": window,
            "seconds": ago,
            "alert": SystemAlert.event_name,  # its own failures would go round for ever
            "events": None if EVERY_EVENT in events else list(events),
        }
        with autocommit() as connection:
            rows = fetch(connection, SQL["failed_runs"], values)
        for row in rows:
            runs = f"{row['runs']} runs" if row["runs"] > 1 else "A run"
            yield Alert(
                "run_failed", row["event"], "error", f"{runs} of {row['event']} failed",
                f"{runs} of {row['event']} failed for good ({row['error_code']}). "
                f"See them with: cgk-tasks runs list --state failed --event {row['event']}",
                {"event": row["event"], "runs": row["runs"], "runIds": row["ids"], "tenants": row["tenants"],
                 "errorCode": row["error_code"]},
                slot=row["slot"],
            )  # fmt: skip

    def _old_queues(self) -> Iterator[Alert]:
        with autocommit() as connection:
            rows = fetch_or_before(
                connection,
                SQL["waiting_longest"],
                SQL["waiting_longest_before_lanes"],
                {"seconds": self._settings.alert_queue_age_seconds},
            )
        for row in rows:
            seconds = round(row["seconds"])
            yield Alert(
                "queue_age", row["queue"], "warning", f"Runs wait in queue {row['queue']}",
                f"A run in queue {row['queue']} could run and has waited for {seconds} s. Add workers, or check with: "
                "cgk-tasks doctor",
                {"queue": row["queue"], "seconds": seconds},
            )  # fmt: skip

    def _quarantines(self) -> Iterator[Alert]:
        switch = SWITCH.current()
        if not (switch.has_lanes and switch.has_guards):  # before the end of an upgrade there are none
            return
        with autocommit() as connection:
            rows = fetch(connection, QUARANTINE["recent"], {"seconds": self._settings.alert_window_seconds})
        for row in rows:
            tenant = row["tenant_id"]
            until = (
                f"until {row['until']:%Y-%m-%d %H:%M:%S %Z}" if row["until"] is not None else "until somebody ends it"
            )
            yield Alert(
                "tenant_quarantined", tenant, "error", f"Tenant {tenant} is in quarantine",
                f"{row['failed']} of its last {row['runs']} runs failed. Nothing of the tenant starts {until}. "
                f"See what failed: cgk-tasks runs list --tenant {tenant} --state failed. To end it: cgk-tasks resume "
                f"--tenant {tenant}",
                {"tenant": tenant, "runs": row["runs"], "failed": row["failed"]}, slot=row["began"],
            )  # fmt: skip

    def _tell(self, alert: Alert) -> bool:
        window = self._settings.alert_window_seconds
        told_at = self._told.get((alert.kind, alert.subject))
        if told_at is not None and time.monotonic() - told_at < window:
            return False
        slot = int(time.time() // window) if alert.slot is None else alert.slot
        is_new = send(alert, f"alert:{alert.kind}:{alert.subject}:{slot}")
        self._told[alert.kind, alert.subject] = time.monotonic()
        return is_new


def _missed_schedules() -> Iterator[Alert]:
    for entry in failing_entries():
        yield Alert(
            "schedule_missed", entry.name, "critical", f"The periodic task {entry.name} is not sent",
            f"{entry.task} was due and could not be sent: {entry.reason}",
            {"schedule": entry.name, "failingSince": entry.failing_since.isoformat()},
        )  # fmt: skip
    late = late_schedules()
    if not late:
        return
    if leading_beat() is None:
        names = [one.name for one in late]
        yield Alert(
            "schedule_missed", "beat", "critical", "No beat leads, and schedules are due",
            f"{len(late)} schedules did not tick in time: {_listed(names)}. Start one: celery -A cgk_tasks beat",
            {"schedules": names},
        )  # fmt: skip
        return
    for one in late:
        yield Alert(
            "schedule_missed", one.name, "critical", f"The schedule {one.name} did not tick",
            f"It is {one.seconds_late:.0f} s late. Beat's log says why.",
            {"schedule": one.name, "expectedAt": one.expected_at.isoformat()},
        )  # fmt: skip


def _lost_workers() -> Iterator[Alert]:
    while lost_workers:
        name = lost_workers[0]
        yield Alert(
            "worker_lost", name, "error", f"The worker {name} is lost",
            "Its heartbeat stopped. Its runs were reclaimed and go on elsewhere.", {"worker": name},
        )  # fmt: skip
        lost_workers.popleft()  # once it is told: an error on the way leaves it for the next look


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def send(alert: Alert, key: str) -> bool:
    """Send the alert, unless it was sent with this key. Returns whether it was sent now."""
    tenant = get_settings().alert_tenant
    if tenant == PLATFORM_TENANT:
        ensure_platform_tenant()
    event = SystemAlert(
        tenant_id=tenant, severity=alert.severity, title=alert.title, message=alert.message,
        metadata={"alert": alert.kind, "subject": alert.subject, **alert.details},
    )  # fmt: skip
    try:
        handle = send_job(event, idempotency_key=key)
    except IdempotencyConflictError:
        return False  # told before, in other words: the numbers have changed since
    if not handle.deduplicated:
        log.warning("alert_sent", alert=alert.kind, subject=alert.subject, alert_run=handle.id)
    return not handle.deduplicated
