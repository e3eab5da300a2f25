"""A tick becomes runs: one for every active tenant, or one for the platform, exactly once.

The tick's row, its runs and their idempotency keys are written in one transaction, whatever the number of tenants, in a
fixed number of statements. Whoever else tries the same tick, now or after a restart, finds the row and makes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import StoreError
from cgk_tasks.flow.accept import UnitOfWork, dispatch
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.runs.plain_columns import search_fields
from cgk_tasks.runs.sealing import key_for, seal
from cgk_tasks.schedules.cancel_old import cancel_old
from cgk_tasks.schedules.ruled_ticks import TickRun, are_ruled, send_free
from cgk_tasks.schedules.schedule import PLATFORM, Overlap, Schedule, payload_after_tenant
from cgk_tasks.schedules.ticks import is_late
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.locks import wait_briefly
from cgk_tasks.sql.postgres import Connection, Row, execute, fetch, short_transaction, statements
from cgk_tasks.tenancy import sync
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.platform import ensure_platform_tenant

SQL, TRANSITIONS = statements("schedules"), statements("transitions")
log = structlog.get_logger("cgk_tasks.schedules")


@dataclass(frozen=True, slots=True)
class Tick:
    """What a tick did. `is_new`: False when it had been made before, by anybody; then nothing happened."""

    schedule: str
    scheduled_for: datetime
    is_new: bool
    runs: int = 0
    suspended: int = 0
    switched_off: int = 0
    overlapping: int = 0
    given_up: int = 0


def idempotency_key(schedule: str, scheduled_for: datetime) -> str:
    """The key of a tick's runs; the tenant and the event belong to every key anyway."""
    return f"schedule:{schedule}:{scheduled_for.astimezone(UTC).isoformat()}"


def fire(
    schedule: Schedule,
    scheduled_for: datetime,
    *,
    now: datetime | None = None,
    tenant_id: str | None = None,
    by_hand: bool = False,
    given_up: int = 0,
) -> Tick:
    """Make the runs of one tick, and dispatch those that are due.

    tenant_id: for this tenant only. given_up: missed ticks that this one stands for, for the record. A broker that is
    down is no error. Raises psycopg.Error; then nothing was made, and the tick can be tried again. Where rules decide
    about the runs and somebody's open transaction has what those of some tenants need, the others get theirs, and
    StoreError is raised: tried again, the tick is made for the rest. By hand nothing is made then.
    """
    now = now or database_now()
    _prepare_tenants(schedule)
    with short_transaction(60) as connection:
        tick = {"schedule": schedule.name, "scheduled_for": scheduled_for, "by_hand": by_hand, "given_up": given_up}
        if not fetch(connection, SQL["begin_tick"], tick):
            execute(connection, SQL["done_until"], {"schedule": schedule.name, "until": scheduled_for})
            return Tick(schedule.name, scheduled_for, is_new=False)
        overlap: Overlap = schedule.overlap
        if schedule.misfire == "all" and is_late(scheduled_for, now):
            overlap = "allow"  # every missed tick was asked for, and they all come at once
        row, unit = _make_runs(connection, schedule, _values(schedule, scheduled_for, now, tenant_id, overlap))
        if row["locked"] and by_hand:
            raise _locked(schedule, row["locked"])
        if row["locked"]:
            execute(connection, SQL["leave_tick_open"], tick)
        else:
            _record(connection, tick, row, tenant_id)
    if unit is not None:
        unit.publish()
    _dispatch(schedule, row)
    if row["locked"]:
        raise _locked(schedule, row["locked"])
    counts = _counts(row)
    log.info("schedule_ticked", schedule=schedule.name, scheduled_for=scheduled_for.isoformat(), **counts)
    return Tick(schedule.name, scheduled_for, is_new=True, given_up=given_up, **counts)


def _record(connection: Connection, tick: Row, row: Row, tenant_id: str | None) -> None:
    execute(connection, SQL["end_tick"], {**tick, **_counts(row), "overlapped": json.dumps(row["overlapped"])})
    if tick["by_hand"]:
        note(connection, "trigger schedule", tick["schedule"], tenant_id=tenant_id, affected=row["runs"])
    else:
        execute(connection, SQL["done_until"], {"schedule": tick["schedule"], "until": tick["scheduled_for"]})


def _locked(schedule: Schedule, tenants: Sequence[str]) -> StoreError:
    return StoreError(
        f"The tick of {schedule.name} is not made for {len(tenants)} tenants, of which {tenants[0]} is one: open "
        "transactions hold what the rules of its job need.",
        hint="It is made for them when those have ended. Find the oldest in pg_stat_activity (xact_start).",
    )


def _make_runs(connection: Connection, schedule: Schedule, values: dict[str, Any]) -> tuple[Row, UnitOfWork | None]:
    """Make the runs of the tenants that get one. Returns those that are due, how many tenants got none and why, and
    those that somebody's lock keeps from it yet; and what else is to be published.
    """
    unit, served = None, set()
    is_ruled = are_ruled(schedule.event)
    if is_ruled:
        served = {row["tenant_id"] for row in fetch(connection, SQL["tenants_with_key"], values)}
    if is_ruled or values["overlap"] == "cancel_old":
        wait_briefly(connection)
    if values["overlap"] == "cancel_old" and not served:
        cancel_old(connection, schedule.name, values["tenant_id"])
    rows = [row for row in fetch(connection, TRANSITIONS["tenants_of_tick"], values) if row["tenant_id"] not in served]
    reasons = Counter(row["reason"] for row in rows)
    if is_ruled:
        made, unit = _send_runs(connection, schedule, rows, values)
        made["runs"] += len(served)
    else:
        made = fetch(connection, TRANSITIONS["insert_runs_of_tick"], values | _content(schedule, rows))[0]
    found = {
        "locked": [],
        **made,
        **{reason: reasons[reason] for reason in ("suspended", "switched_off", "overlapping")},
        "overlapped": [row["tenant_id"] for row in rows if row["reason"] == "overlapping"],
    }
    return found, unit


def _send_runs(
    connection: Connection, schedule: Schedule, rows: Sequence[Row], values: dict[str, Any]
) -> tuple[Row, UnitOfWork]:
    """The same, where rules of the event's job say what becomes of each run."""
    tenants = [row["tenant_id"] for row in rows if row["reason"] is None]
    rest = payload_after_tenant(schedule.event, schedule.payload)
    ticks = [
        TickRun(
            schedule.name, row["run_id"], row["tenant_id"], schedule.event, f'{{"tenantId":"{row["tenant_id"]}{rest}',
            values["queue"], values["priority"], values["scheduled_for"], values["key"],
            row["run_at"] if row["run_at"] > values["now"] else None,
        )
        for row in fetch(connection, TRANSITIONS["runs_of_tick"], values | {"tenants": tenants})
    ]  # fmt: skip
    unit, sent, locked = send_free(connection, ticks)
    return {"runs": sent, "due_ids": [], "due_tenants": [], "locked": [tick.tenant_id for tick in locked]}, unit


def _content(schedule: Schedule, rows: Sequence[Row]) -> dict[str, Any]:
    """The payload of each tenant, sealed, and its hash. They differ by the tenant's id alone, so it is written once."""
    tenants = [row["tenant_id"] for row in rows if row["reason"] is None]
    rest = payload_after_tenant(schedule.event, schedule.payload)
    keys = [key_for(tenant) for tenant in tenants]
    texts = [f'{{"tenantId":"{tenant}{rest}' for tenant in tenants]
    return {
        "tenants": tenants,
        "key_id": keys,
        "payload_hash": [hashlib.sha256(text.encode()).digest() for text in texts],
        "sealed_payload": [
            seal(tenant, "payload", text, key) for tenant, text, key in zip(tenants, texts, keys, strict=True)
        ],
        "search_fields": search_fields(schedule.event, texts[0]) if texts else None,
    }


def _prepare_tenants(schedule: Schedule) -> None:
    if schedule.scope == PLATFORM:
        ensure_platform_tenant()
    elif get_settings().tenants_query:
        sync.sync(max_age_seconds=get_settings().tenants_refresh_seconds)


def _values(
    schedule: Schedule, scheduled_for: datetime, now: datetime, tenant_id: str | None, overlap: Overlap
) -> dict[str, Any]:
    settings = get_settings()
    queue, priority = _route(schedule)
    return {
        "schedule": schedule.name,
        "scheduled_for": scheduled_for,
        "now": now,
        # The tenants of a tick that comes late are spread from now on, not all due at once.
        "starts_at": now if is_late(scheduled_for, now) else scheduled_for,
        "event": schedule.event,
        "queue": queue,
        "priority": priority,
        "ttl": ROUTES.current().ttl(schedule.event),
        # One tenant alone has nobody to be kept apart from: it starts at once.
        "spread": 0.0 if tenant_id is not None else schedule.spread,
        "overlap": overlap,
        "for_platform": schedule.scope == PLATFORM,
        "tenant_id": tenant_id,
        "key": idempotency_key(schedule.name, scheduled_for),
        "key_seconds": settings.idempotency_seconds,
    }


def _route(schedule: Schedule) -> tuple[str, int]:
    """The schedule's own queue and priority, else its job's."""
    queue, priority = ROUTES.current().queue_and_priority(schedule.event)
    return schedule.queue or queue, priority if schedule.priority is None else schedule.priority


def _counts(row: Row) -> dict[str, int]:
    return {name: row[name] for name in ("runs", "suspended", "switched_off", "overlapping")}


def _dispatch(schedule: Schedule, row: Row) -> None:
    """Publish the runs that are due, a batch at a time. What the broker does not take, the dispatcher dispatches."""
    settings = get_settings()
    queue, priority = _route(schedule)
    pairs = list(zip(row["due_ids"], row["due_tenants"], strict=True))
    for begin in range(0, len(pairs), settings.dispatch_batch):
        batch = pairs[begin : begin + settings.dispatch_batch]
        dispatch([Dispatch(run_id, tenant, schedule.event, queue, priority) for run_id, tenant in batch])


def with_timing(schedule: Schedule, cron: str, timezone: str) -> Schedule:
    """The schedule at other times: those that an operator set."""
    if (schedule.cron, schedule.timezone) == (cron, timezone):
        return schedule
    return dataclasses.replace(schedule, cron=cron, timezone=timezone)
