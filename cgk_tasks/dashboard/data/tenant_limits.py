"""What one tenant may, what of it waits and where, what is paused, which API keys it has, and what it used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.api_keys.keys import ApiKey, list_keys
from cgk_tasks.dashboard.data.gates import Gates, gates_of
from cgk_tasks.dashboard.data.lanes import Lanes, ShareLine, lanes_of, shares_of
from cgk_tasks.dashboard.data.queries import if_migrated
from cgk_tasks.dashboard.data.used_hour import UsedHour, hour_of_tenant, used_parts
from cgk_tasks.flow.job_limits import JobLimit, LimitChange, limit_history, list_limits
from cgk_tasks.flow.pauses import Pause, list_pauses
from cgk_tasks.flow.plans import TenantLimits, get_tenant_limits
from cgk_tasks.flow.quarantine import BY, Quarantine, list_quarantines
from cgk_tasks.runs.usage import Usage, get_usage

_CHANGES = 20


@dataclass(frozen=True, slots=True)
class TenantView:
    """limits: in force now. job_limits: set for the tenant. pauses: of the tenant, or of all. used: this month, if
    anything. quarantine: if it is in one, or comes back from it.
    """

    limits: TenantLimits
    job_limits: Sequence[JobLimit]
    pauses: Sequence[Pause]
    used: Usage | None
    changes: Sequence[LimitChange]
    turns: Turns | None
    keys: Sequence[ApiKey]
    quarantine: Quarantine | None

    @property
    def is_quarantined(self) -> bool:
        """Whether the quarantine's pause is in force. Who ends it removes the pause; the leader looks seconds later."""
        return self.quarantine is not None and any(
            one.tenant_id == self.quarantine.tenant_id and one.paused_by == BY for one in self.pauses
        )


@dataclass(frozen=True, slots=True)
class Turns:
    """What decides when the tenant's runs start: its share of each queue, its lanes, and the gates that it is under.

    hour: what it had in the last one; None until the last step of an upgrade.
    """

    shares: Sequence[ShareLine]
    lanes: Lanes
    gates: Gates
    hour: UsedHour | None


def tenant_view(tenant_id: str) -> TenantView:
    """Raises UnknownTenantError, StoreError."""
    limits = get_tenant_limits(tenant_id)
    return TenantView(
        limits=limits,
        job_limits=[one for one in list_limits(tenant=tenant_id) if one.source == "set"],
        pauses=[one for one in list_pauses() if one.tenant_id in {None, tenant_id}],
        used=next(iter(get_usage(tenant_id, by="total")), None),
        changes=limit_history(tenant=tenant_id, limit=_CHANGES),
        turns=_turns(tenant_id) if SWITCH.current().has_lanes else None,
        keys=list_keys(tenant_id),
        quarantine=next((one for one in list_quarantines() if one.tenant_id == tenant_id), None),
    )


def _turns(tenant_id: str) -> Turns | None:
    """None while an upgrade is under way."""
    found = if_migrated(
        lambda connection: Turns(
            shares_of(connection, tenant_id), lanes_of(connection, tenant_id=tenant_id),
            gates_of(connection, tenant_id=tenant_id), None,
        )
    )  # fmt: skip
    if found is None or not found.shares:
        return found
    queues = [line.queue for line in found.shares]
    parts = if_migrated(lambda connection: used_parts(connection, queues, [tenant_id]))
    if parts is None:
        return found
    shares = [replace(line, used=parts.get((line.queue, tenant_id), 0.0)) for line in found.shares]
    return replace(
        found, shares=shares, hour=if_migrated(lambda connection: hour_of_tenant(connection, tenant_id, queues))
    )
