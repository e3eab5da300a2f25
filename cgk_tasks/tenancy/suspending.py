"""Holding all runs of a tenant, and letting them go on."""

from __future__ import annotations

from cgk_tasks.sql.postgres import fetch, transaction
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.registry import require
from cgk_tasks.tenancy.store import KNOWN, SQL, tenant_of
from cgk_tasks.tenancy.visibility import refuse_in_context


def suspend_tenant(tenant_id: str, by: str = "") -> Tenant:
    """Hold the tenant's runs: nothing new starts, sends are accepted and wait.

    Raises UnknownTenantError, and TenantContextError inside a tenant's context.
    """
    return _set_status(tenant_id, "suspended", by)


def resume_tenant(tenant_id: str) -> Tenant:
    """Let the tenant's held runs go on; the dispatcher dispatches them within a second.

    Raises UnknownTenantError, and TenantContextError inside a tenant's context.
    """
    return _set_status(tenant_id, "active", "")


def _set_status(tenant_id: str, status: str, by: str) -> Tenant:
    refuse_in_context("Which tenants are suspended")
    require(tenant_id)
    action = "suspend tenant" if status == "suspended" else "resume tenant"
    with transaction() as connection:
        rows = fetch(connection, SQL["set_tenant_status"], {"id": tenant_id, "status": status, "by": by})
        note(connection, action, tenant_id, tenant_id=tenant_id, by=by)
    KNOWN.current().pop(tenant_id, None)
    return tenant_of(rows[0])
