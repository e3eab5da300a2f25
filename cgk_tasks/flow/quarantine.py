"""Quarantine: a tenant of whose last runs too many failed is paused, and comes back at a tenth of its weight.

The leader looks now and then. A quarantine is a pause of the tenant, so whoever resumes the tenant ends it; beside it
there is a row that says how many runs failed, and how the tenant comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import psycopg
import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.flow.changes import Change, changing
from cgk_tasks.flow.pauses import pause_tenant, resume
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Row, autocommit, execute, explain, fetch, statements, transaction
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL, LIMITS = statements("quarantine"), statements("limits")
log = structlog.get_logger("cgk_tasks.quarantine")

BY: Final = "quarantine"
"""Who pauses the tenant, in the audit."""

_PACED_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A tenant in quarantine. state: `paused`, until `until` (None: until somebody ends it); or `paced`: it runs again,
    at a tenth of its weight until `until`. failed: of so many `runs` that closed before it began.
    """

    tenant_id: str
    state: Literal["paused", "paced"]
    began_at: datetime
    until: datetime | None
    runs: int
    failed: int


def list_quarantines() -> list[Quarantine]:
    """The tenants in quarantine, and those that come back from it. Raises StoreError, and TenantContextError inside a
    tenant's context.
    """
    refuse_in_context("Who is in quarantine")
    try:
        with autocommit() as connection:
            return [_quarantine(row) for row in fetch(connection, SQL["list"])]
    except psycopg.Error as exc:
        raise explain(exc) from exc


def end_quarantine(tenant: str, *, by: str = "", reason: str = "") -> bool:
    """End a tenant's quarantine, as `resume(tenant=...)` does. It has a tenth of its weight for
    CGK_QUARANTINE_PACED_SECONDS, and then all of it. Returns whether the tenant was paused. Raises StoreError.
    """
    return resume(tenant=tenant, by=by, reason=reason)


def look() -> list[str]:
    """Put tenants into quarantine that are over their error budget, and let those go on whose time has come. Returns
    the new ones. Raises psycopg.Error, StoreError.
    """
    settings = get_settings()
    begun = []
    if settings.quarantine:
        values = {
            "window": settings.quarantine_window_seconds,
            "share": settings.quarantine_failed_share,
            "runs": settings.quarantine_runs,
        }
        with autocommit() as connection:
            found = fetch(connection, SQL["over_budget"], values)
        begun = [row["tenant_id"] for row in found]
        for row in found:
            _begin(row)
    _go_on()
    return begun


def _begin(row: Row) -> None:
    settings = get_settings()
    seconds = settings.quarantine_release_seconds
    until = database_now() + timedelta(seconds=seconds) if seconds else None
    tenant_id, runs, failed = row["tenant_id"], row["runs"], row["failed"]
    reason = f"quarantine: {failed} of {runs} runs failed in {settings.quarantine_window_seconds:g} s"
    with changing() as (connection, _version):
        pause_tenant(connection, tenant_id, until, Change(BY, reason))
        execute(connection, SQL["begin"], row | {"until": until})
    log.warning("tenant_quarantined", tenant=tenant_id, runs=runs, failed=failed, seconds=seconds or None)


def _go_on() -> None:
    with autocommit() as connection:
        if not fetch(connection, SQL["are_there"])[0]["yes"]:
            return
    settings = get_settings()
    with transaction() as connection:
        fetch(connection, LIMITS["lock"])
        released = fetch(connection, SQL["note_released"], {"paced": settings.quarantine_paced_seconds})
        execute(connection, SQL["weigh"], {"paced_share": _PACED_SHARE})
        fetch(connection, SQL["forget"], {"window": settings.quarantine_window_seconds})
    for row in released:
        log.info("tenant_released", tenant=row["tenant_id"], paced_seconds=settings.quarantine_paced_seconds)


def _quarantine(row: Row) -> Quarantine:
    is_paused = row["released_at"] is None
    until = row["until"] if is_paused else row["paced_until"]
    return Quarantine(
        row["tenant_id"], "paused" if is_paused else "paced", row["began_at"].astimezone(UTC),
        None if until is None else until.astimezone(UTC), row["runs"], row["failed"],
    )  # fmt: skip
