"""Schedules that are made at run time, each for one tenant: a customer's own report at seven.

They live in `cgk.tenant_schedules`, not among beat's entries: there may be very many, and only the due ones are read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, InvalidOptionError, TenantContextError, UnknownScheduleError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import get_event
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runs.sealing import key_for, opened, seal
from cgk_tasks.runs.text import text_of
from cgk_tasks.schedules.cron import timing
from cgk_tasks.schedules.schedule import Misfire, Overlap, payload_text
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements, transaction
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.context import find_current_tenant

SQL = statements("schedules")

_MAX_KEY = 500
_FIRST_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class TenantSchedule:
    """A tenant's own schedule. `payload` is in wire form; `next_at` is its next tick."""

    id: str
    tenant_id: str
    event: str
    payload: Mapping[str, Any]
    cron: str
    timezone: str
    misfire: Misfire
    overlap: Overlap
    max_age: float
    dedup_key: str | None
    is_paused: bool
    next_at: datetime
    created_at: datetime


def create_schedule(
    tenant_id: str,
    event: str | TenantEvent,
    cron: str,
    timezone: str = "UTC",
    payload: Mapping[str, Any] | None = None,
    dedup_key: str | None = None,
    *,
    misfire: Misfire = "once",
    overlap: Overlap = "skip",
    max_age: float = 86_400.0,
) -> TenantSchedule:
    """Send an event for one tenant again and again, from the next tick on.

        create_schedule("acme", "digest.send", "0 7 * * 1", "Europe/Berlin", {"digest": "adminDaily"}, "weekly-digest")

    The options mean what they mean in `Schedule`. dedup_key: a second call with the same key for this tenant changes
    the first schedule and returns it, so the call is safe to repeat. Raises UnknownTenantError, UnknownEventError,
    PayloadInvalidError, InvalidOptionError, TenantContextError, StoreError.
    """
    if isinstance(event, TenantEvent):
        payload, event = event.to_wire(), event.event_name
    now = database_now()
    if dedup_key is not None and not 0 < len(dedup_key) <= _MAX_KEY:
        raise InvalidOptionError("dedup_key", f"must be a text of 1 to {_MAX_KEY} characters")
    here = find_current_tenant()
    if here is not None and here.id != tenant_id:
        raise TenantContextError(
            f"A schedule for {tenant_id!r} was asked for inside the context of tenant {here.id!r}.",
            hint="Close that one first, or use platform_context().",
        )
    registry.require(tenant_id)
    values = {
        "id": new_run_id(),
        "tenant_id": tenant_id,
        "dedup_key": dedup_key,
        "done_until": now,
        "next_at": timing(cron, timezone).next(now),
        **_checked(tenant_id, event, payload or {}, cron, timezone, misfire, overlap, max_age),
    }
    with autocommit() as connection:
        return _schedule(fetch(connection, SQL["put_tenant_schedule"], values)[0])


def _checked(
    tenant_id: str, event: str, payload: Mapping[str, Any], cron: str, timezone: str, misfire: str, overlap: str,
    max_age: float,
) -> dict[str, Any]:  # fmt: skip
    """The columns of a schedule, valid. Raises what `create_schedule` raises."""
    for option, value, kinds in (("misfire", misfire, Misfire), ("overlap", overlap, Overlap)):
        if value not in get_args(kinds):
            raise InvalidOptionError(option, f"is {value!r}.", hint=f"There are: {', '.join(get_args(kinds))}")
    if not 0 <= max_age <= LONGEST_WAIT_SECONDS:
        raise InvalidOptionError("max_age", f"is {text_of(max_age)} s.", hint="It goes from 0 to a hundred years")
    model = get_event(event)
    if not model.durable:
        raise InvalidOptionError(
            "event", f"{event!r} leaves no record, so its ticks could happen twice.", hint="Send another"
        )
    timing(cron, timezone)
    key_id = key_for(tenant_id)
    return {
        "event": model.event_name,
        "sealed_payload": seal(tenant_id, "payload", payload_text(event, payload, tenant_id), key_id),
        "key_id": key_id,
        "cron": cron,
        "timezone": timezone,
        "misfire": misfire,
        "overlap": overlap,
        "max_age": max_age,
    }


def list_schedules(tenant_id: str | None = None) -> list[TenantSchedule]:
    """The schedules made with `create_schedule`, of one tenant or of all."""
    with autocommit() as connection:
        return [
            _schedule(row) for row in fetch(connection, SQL["tenant_schedules"], {"tenant_id": tenant_id, "id": None})
        ]


def page_of_schedules(tenant_id: str | None, after: tuple[str, str] | None, limit: int) -> list[TenantSchedule]:
    """So many of the schedules of one tenant or of all, by tenant. after: tenant and id of the last one of the page
    before.
    """
    tenant, schedule_id = after or ("", _FIRST_ID)
    values = {"tenant_id": tenant_id, "after_tenant": tenant, "after_id": _uuid(schedule_id), "limit": limit}
    with autocommit() as connection:
        return [_schedule(row) for row in fetch(connection, SQL["page_of_tenant_schedules"], values)]


def count_schedules(tenant_id: str | None, most: int) -> int:
    """How many there are, of one tenant or of all: `most` for so many or more."""
    with autocommit() as connection:
        found = fetch(connection, SQL["count_tenant_schedules"], {"tenant_id": tenant_id, "most": most})
    return int(found[0]["schedules"])


def get_schedule(schedule_id: str) -> TenantSchedule:
    """One of them. Raises UnknownScheduleError, also for another tenant's inside a tenant's context."""
    here = find_current_tenant()
    with autocommit() as connection:
        found = fetch(
            connection, SQL["tenant_schedules"], {"tenant_id": here.id if here else None, "id": _uuid(schedule_id)}
        )
    if not found:
        raise UnknownScheduleError(schedule_id)
    return _schedule(found[0])


def update_schedule(schedule_id: str, **changes: Any) -> TenantSchedule:
    """Change `event`, `payload`, `cron`, `timezone`, `misfire`, `overlap` or `max_age`.

    New times count from now on: what would have ticked before is not made up for. Raises UnknownScheduleError and what
    `create_schedule` raises.
    """
    known = get_schedule(schedule_id)
    current = {name: getattr(known, name) for name in _CHANGEABLE}
    for name in changes:
        if name not in current:
            raise InvalidOptionError(name, "cannot be changed.", hint=f"These can: {', '.join(_CHANGEABLE)}")
    wanted = _checked(known.tenant_id, **{**current, **changes})
    return _change(known, wanted, is_paused=known.is_paused)


_CHANGEABLE = ("event", "payload", "cron", "timezone", "misfire", "overlap", "max_age")


def pause_schedule(schedule_id: str) -> TenantSchedule:
    """Let it tick no more until it is resumed. Raises UnknownScheduleError."""
    return _set_paused(schedule_id, is_paused=True)


def resume_schedule(schedule_id: str) -> TenantSchedule:
    """Let it tick again, from the next tick on; ticks of the pause are not made up for. Raises UnknownScheduleError."""
    return _set_paused(schedule_id, is_paused=False)


def delete_schedule(schedule_id: str) -> None:
    """Remove it; runs that it made stay. Raises UnknownScheduleError."""
    here = find_current_tenant()
    values = {"id": _uuid(schedule_id), "tenant_id": here.id if here else None}
    with autocommit() as connection:
        if not fetch(connection, SQL["drop_tenant_schedule"], values):
            raise UnknownScheduleError(schedule_id)


def _set_paused(schedule_id: str, *, is_paused: bool) -> TenantSchedule:
    known = get_schedule(schedule_id)
    if known.is_paused == is_paused:
        return known
    current = {name: getattr(known, name) for name in _CHANGEABLE}
    return _change(known, _checked(known.tenant_id, **current), is_paused=is_paused)


def _change(known: TenantSchedule, wanted: dict[str, Any], *, is_paused: bool) -> TenantSchedule:
    times_change = (known.cron, known.timezone, known.is_paused) != (wanted["cron"], wanted["timezone"], is_paused)
    now = database_now()
    values = {
        **wanted,
        "id": known.id,
        "is_paused": is_paused,
        "done_until": now if times_change else None,
        "next_at": timing(wanted["cron"], wanted["timezone"]).next(now) if times_change else None,
    }
    with transaction() as connection:
        found = fetch(connection, SQL["change_tenant_schedule"], values)
        if found and known.is_paused != is_paused:
            action = "pause tenant's schedule" if is_paused else "resume tenant's schedule"
            note(connection, action, known.id, tenant_id=known.tenant_id)
    if not found:
        raise UnknownScheduleError(known.id)
    return _schedule(found[0])


def _schedule(row: Row) -> TenantSchedule:
    values = opened(row)
    del values["key_id"]
    return TenantSchedule(**{**values, "payload": decode(values["payload"])})


def _uuid(schedule_id: str) -> str:
    try:
        return str(uuid.UUID(schedule_id))
    except (ValueError, TypeError, AttributeError):
        raise UnknownScheduleError(str(schedule_id)) from None
