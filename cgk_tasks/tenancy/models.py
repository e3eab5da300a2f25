"""The tenant: a customer of the product, as an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cgk_tasks.config import Isolation, get_settings

TenantState = Literal["active", "suspended"]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as the registry knows it. `role_name` is set when isolation is `role` or `rls`."""

    id: str
    status: TenantState
    isolation: Isolation
    schema_name: str
    role_name: str | None = None
    registered: bool = True
    """False where nobody asked the registry: a session does before it opens, for the real schema and role."""

    @property
    def state(self) -> TenantState:
        """`active`, or `suspended`: its runs are held. `status` is the first name of it."""
        return self.status


def presumed(tenant_id: str) -> Tenant:
    """An active tenant as the settings would make it, where runs need no server: the local provider, tests."""
    settings = get_settings()
    schema = settings.tenant_schema.format(id=tenant_id)
    return Tenant(tenant_id, "active", settings.tenant_isolation, schema, registered=False)
