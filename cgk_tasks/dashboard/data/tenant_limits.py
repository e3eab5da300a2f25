"""What one tenant may, what of it is paused, and what it used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cgk_tasks.flow.job_limits import JobLimit, LimitChange, limit_history, list_limits
from cgk_tasks.flow.pauses import Pause, list_pauses
from cgk_tasks.flow.plans import TenantLimits, get_tenant_limits
from cgk_tasks.runs.usage import Usage, get_usage

_CHANGES = 20


@dataclass(frozen=True, slots=True)
class TenantView:
    """limits: in force now. job_limits: set for the tenant. pauses: of the tenant, or of all. used: this month, if
    anything.
    """

    limits: TenantLimits
    job_limits: Sequence[JobLimit]
    pauses: Sequence[Pause]
    used: Usage | None
    changes: Sequence[LimitChange]


def tenant_view(tenant_id: str) -> TenantView:
    """Raises UnknownTenantError, StoreError."""
    limits = get_tenant_limits(tenant_id)
    return TenantView(
        limits=limits,
        job_limits=[one for one in list_limits(tenant=tenant_id) if one.source == "set"],
        pauses=[one for one in list_pauses() if one.tenant_id in {None, tenant_id}],
        used=next(iter(get_usage(tenant_id, by="total")), None),
        changes=limit_history(tenant=tenant_id, limit=_CHANGES),
    )
