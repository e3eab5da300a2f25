"""What holds a tenant's open runs, summed up: how many wait for the same, and why the first of them does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cgk_tasks.errors import UnknownRunError
from cgk_tasks.monitoring.why import why
from cgk_tasks.monitoring.why_gates import Gate
from cgk_tasks.runs.models import State
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("why")

_MOST_KINDS: Final = 20


@dataclass(frozen=True, slots=True)
class SameReason:
    """Open runs that wait for the same. oldest: since when the first of them is due, or will be. gates: what holds the
    one that was sent first (`example`). expected_at: when that one is expected to start, an estimate.
    """

    runs: int
    state: State
    queue: str
    oldest: datetime
    example: str
    gates: tuple[Gate, ...]
    expected_at: datetime | None


@dataclass(frozen=True, slots=True)
class TenantWhy:
    """A tenant's open runs by what holds them, the most first. There are no more kinds than 20."""

    tenant_id: str
    runs: int
    kinds: tuple[SameReason, ...]


def why_tenant(tenant_id: str) -> TenantWhy:
    """What holds the tenant's runs now. Looks at all open runs, which takes half a second for a million.

    Raises UnknownTenantError, TenantContextError inside another tenant's context, and the driver's errors when
    PostgreSQL is away.
    """
    refuse_in_context(f"What holds the runs of tenant {tenant_id!r}", tenant_id)
    registry.require(tenant_id)
    with autocommit() as connection:
        rows = fetch(connection, SQL["of_tenant"], {"tenant_id": tenant_id, "limit": _MOST_KINDS})
    kinds = []
    for row in rows:
        try:
            found = why(row["first"])
        except UnknownRunError:  # housekeeping has removed it meanwhile
            continue
        oldest = row["oldest"].astimezone(UTC)
        kind = SameReason(row["runs"], row["state"], row["queue"], oldest, row["first"], found.gates, found.expected_at)
        kinds.append(kind)
    return TenantWhy(tenant_id, sum(kind.runs for kind in kinds), tuple(kinds))
