"""What a tenant changes about an entry of SCHEDULES for itself: it is off, or its runs start later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cgk_tasks.errors import InvalidOptionError, as_seconds
from cgk_tasks.schedules.lookup import find_schedule
from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements, transaction
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.audit import note

SQL = statements("schedules")

_LONGEST_SHIFT = timedelta(days=31).total_seconds()


@dataclass(frozen=True, slots=True)
class ScheduleOverride:
    """A tenant's own rule for a schedule. `shift_seconds`: how much later than the tick its run starts."""

    schedule: str
    tenant_id: str
    is_off: bool
    shift_seconds: float


def override_schedule(
    name: str, tenant_id: str, *, enabled: bool = True, shift: float | timedelta = 0.0
) -> ScheduleOverride:
    """Switch an entry of SCHEDULES off for one tenant, or start its runs later (seconds or timedelta, up to 31 days).

    `ctx.scheduled_for` stays the tick's. Replaces what was set before; `reset_schedule` removes it.
    Raises UnknownScheduleError, UnknownTenantError, InvalidOptionError.
    """
    schedule = find_schedule(name)
    registry.require(tenant_id)
    seconds = as_seconds(shift)
    if not 0 <= seconds <= _LONGEST_SHIFT:
        raise InvalidOptionError(
            "shift",
            f"is {seconds:g} s.",
            hint=(
                "It goes from 0 to 31 days; for an earlier time, switch the entry off for the "
                "tenant and give it a schedule of its own with create_schedule"
            ),
        )
    values = {"schedule": schedule.name, "tenant_id": tenant_id, "is_off": not enabled, "shift_seconds": seconds}
    with transaction() as connection:
        execute(connection, SQL["put_override"], values)
        details = {"off": not enabled, "shift_seconds": seconds}
        note(connection, "override schedule", schedule.name, tenant_id=tenant_id, details=details)
    return ScheduleOverride(schedule.name, tenant_id, not enabled, seconds)


def reset_schedule(name: str, tenant_id: str) -> bool:
    """Forget what a tenant changed about an entry of SCHEDULES. Returns whether there was anything."""
    with transaction() as connection:
        had = execute(connection, SQL["drop_override"], {"schedule": name, "tenant_id": tenant_id}) > 0
        if had:
            note(connection, "reset schedule", name, tenant_id=tenant_id)
        return had


def list_overrides(
    name: str | None = None, tenant_id: str | None = None, *, limit: int | None = None
) -> list[ScheduleOverride]:
    """What tenants changed, of one schedule or all, of one tenant or all. limit: so many of it, or all."""
    with autocommit() as connection:
        values = {"schedule": name, "tenant_id": tenant_id, "limit": limit}
        found = fetch(connection, SQL["list_overrides"], values)
    return [ScheduleOverride(**row) for row in found]
