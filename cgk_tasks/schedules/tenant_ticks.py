"""The due ticks of the schedules that tenants made: many at once, in a fixed number of statements."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.accept import UnitOfWork, dispatch
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.runs.plain_columns import search_fields
from cgk_tasks.runs.sealing import key_for, open_sealed, seal
from cgk_tasks.schedules.cancel_old import cancel_old
from cgk_tasks.schedules.cron import timing
from cgk_tasks.schedules.fan_out import idempotency_key
from cgk_tasks.schedules.job_events import handled_events
from cgk_tasks.schedules.ruled_ticks import TickRun, are_ruled, send_free
from cgk_tasks.schedules.ticks import due, is_late
from cgk_tasks.sql.locks import wait_briefly
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, short_transaction, statements

SQL, TRANSITIONS = statements("schedules"), statements("transitions")
log = structlog.get_logger("cgk_tasks.schedules")

_BATCH = 1000
_HOUR = timedelta(hours=1)


def fire_tenant_schedules(now: datetime, handled: Collection[str] | None = None) -> int:
    """Make the runs of every due tick whose event has a job. Returns how many runs there were.

    handled: the events with jobs, None to look them up. Ticks of others are passed over.
    """
    handled = handled_events() if handled is None else handled
    made = 0
    while True:
        done, runs = _fire_batch(now, handled)
        made += runs
        if done < _BATCH:
            return made


def next_tenant_tick() -> datetime | None:
    """When the next tenant's schedule ticks, if there is any."""
    with autocommit() as connection:
        found: datetime | None = fetch(connection, SQL["next_tenant_schedule"], {"events": None})[0]["next_at"]
    return found


def _fire_batch(now: datetime, handled: Collection[str]) -> tuple[int, int]:
    """Returns how many schedules are done up to now, and how many runs were made. One that somebody's open transaction
    keeps from it stays due.
    """
    with short_transaction(60) as connection:
        schedules = fetch(connection, SQL["due_tenant_schedules"], {"now": now, "limit": _BATCH})
        if not schedules:
            return 0, 0
        wait_briefly(connection)
        wanted: list[dict[str, Any]] = []
        advance: dict[str, list[Any]] = {"id": [], "done_until": [], "next_at": []}
        for schedule in schedules:
            done_until, next_at = _collect(connection, schedule, now, handled, wanted)
            advance["id"].append(schedule["id"])
            advance["done_until"].append(done_until)
            advance["next_at"].append(next_at)
        plain = [run for run in wanted if not are_ruled(run["event"])]
        made = [run for route, part in _by_route(plain) for run in _make_runs(connection, part, now, *route)]
        ruled = [run for run in wanted if are_ruled(run["event"])]
        unit, sent, locked = _send_runs(connection, ruled) if ruled else (None, 0, set())
        advance = _without(advance, locked)
        execute(connection, SQL["advance_tenant_schedules"], advance)
    if unit is not None:
        unit.publish()
    if made:
        dispatch(made)
    if made or sent:
        log.info("tenant_schedules_ticked", schedules=len(schedules), runs=len(made) + sent)
    if locked:
        hint = "An open transaction holds what the rules of their jobs need. They are tried again."
        log.warning("tenant_schedules_locked", schedules=len(locked), hint=hint)
    return len(advance["id"]), len(made) + sent


def _without(advance: dict[str, list[Any]], locked: Collection[str]) -> dict[str, list[Any]]:
    kept = [nth for nth, schedule in enumerate(advance["id"]) if _name(schedule) not in locked]
    return {column: [values[nth] for nth in kept] for column, values in advance.items()}


def _name(schedule: object) -> str:
    """What the runs of a tenant's schedule have as theirs, by its id."""
    return f"tenant:{schedule}"


def _send_runs(connection: Connection, wanted: list[dict[str, Any]]) -> tuple[UnitOfWork, int, set[str]]:
    """Send those whose event has rules for that. Last come the schedules of those that a lock keeps from it."""
    names = ("schedule", "tenant_id", "scheduled_for", "overlap")
    rows = fetch(
        connection, TRANSITIONS["runs_of_tenant_schedules"], {name: [run[name] for run in wanted] for name in names}
    )
    ticks = []
    for row in rows:
        run = wanted[row["nth"] - 1]
        text = open_sealed(run["tenant_id"], "payload", run["sealed_payload"], run["key_id"])
        queue, priority = ROUTES.current().queue_and_priority(run["event"])
        ticks.append(
            TickRun(
                run["schedule"],
                row["run_id"],
                run["tenant_id"],
                run["event"],
                text,
                queue,
                priority,
                run["scheduled_for"],
                run["key"],
            )
        )
    unit, sent, locked = send_free(connection, ticks)
    return unit, sent, {tick.schedule for tick in locked}


def _collect(
    connection: Connection, schedule: Row, now: datetime, handled: Collection[str], wanted: list[dict[str, Any]]
) -> tuple[datetime, datetime]:
    """Add a schedule's due ticks to `wanted`. Returns up to when it is done, and its next tick."""
    try:
        times = timing(schedule["cron"], schedule["timezone"])
    except InvalidOptionError as exc:
        # The time zone was valid when it was stored; this machine's data must be older. Look again in an hour.
        log.warning("tenant_schedule_unreadable", schedule=schedule["id"], reason=str(exc))
        return schedule["done_until"], now.replace(minute=0, second=0, microsecond=0) + _HOUR
    found = due(times, schedule["done_until"], now, schedule["misfire"], schedule["max_age"])
    name = _name(schedule["id"])
    if schedule["status"] == "active" and schedule["event"] in handled and found.ticks:
        if schedule["overlap"] == "cancel_old":
            cancel_old(connection, name, schedule["tenant_id"])
        content = _content(schedule)
        for tick in found.ticks:
            every_one = schedule["misfire"] == "all" and is_late(tick, now)
            wanted.append(
                {
                    "schedule": name,
                    "tenant_id": schedule["tenant_id"],
                    "event": schedule["event"],
                    **content,
                    "scheduled_for": tick,
                    "key": idempotency_key(name, tick),
                    "overlap": "allow" if every_one else schedule["overlap"],
                    "ttl": ROUTES.current().ttl(schedule["event"]),
                }
            )
    return now, times.next(now)


def _by_route(wanted: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, int], list[dict[str, Any]]]]:
    """The runs by the queue and priority that their jobs want."""
    parts: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in wanted:
        parts.setdefault(ROUTES.current().queue_and_priority(run["event"]), []).append(run)
    yield from parts.items()


def _content(schedule: Row) -> dict[str, Any]:
    """What the runs of a schedule get of its payload, sealed with the key of new rows."""
    tenant_id = schedule["tenant_id"]
    text, key_id = open_sealed(tenant_id, "payload", schedule["sealed_payload"], schedule["key_id"]), key_for(tenant_id)
    return {
        "sealed_payload": seal(tenant_id, "payload", text, key_id),
        "payload_hash": hashlib.sha256(text.encode()).digest(),
        "key_id": key_id,
        "search_fields": search_fields(schedule["event"], text),
    }


def _make_runs(
    connection: Connection, wanted: list[dict[str, Any]], now: datetime, queue: str, priority: int
) -> list[Dispatch]:
    columns = {name: [run[name] for run in wanted] for name in wanted[0]}
    values = {
        **columns,
        "now": now,
        "queue": queue,
        "priority": priority,
        "key_seconds": get_settings().idempotency_seconds,
    }
    rows = fetch(connection, TRANSITIONS["insert_runs_of_tenant_schedules"], values)
    return [Dispatch(row["id"], row["tenant_id"], row["event"], queue, priority) for row in rows]
