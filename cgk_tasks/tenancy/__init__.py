"""Tenancy: the registry of tenants, the context that says whose work runs, and what is confined to it."""

from typing import TYPE_CHECKING, Any

from cgk_tasks.extras import require_extra
from cgk_tasks.tenancy.cache import TenantCache, tenant_cache
from cgk_tasks.tenancy.context import current_tenant, keep_tenant, platform_context, tenant_context
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.registry import active_tenants, add_tenant, get_all_tenants
from cgk_tasks.tenancy.rls import protect_table
from cgk_tasks.tenancy.storage import tenant_storage_path
from cgk_tasks.tenancy.suspending import resume_tenant, suspend_tenant

if TYPE_CHECKING:
    from cgk_tasks.tenancy.database import TenantSession, tenant_session

__all__ = [
    "Tenant",
    "TenantCache",
    "TenantSession",
    "active_tenants",
    "add_tenant",
    "current_tenant",
    "get_all_tenants",
    "keep_tenant",
    "platform_context",
    "protect_table",
    "resume_tenant",
    "suspend_tenant",
    "tenant_cache",
    "tenant_context",
    "tenant_session",
    "tenant_storage_path",
]


def __getattr__(name: str) -> Any:
    """Sessions load SQLAlchemy, which a worker without them need not carry."""
    if name in {"TenantSession", "tenant_session"}:
        require_extra("worker", name)
        from cgk_tasks.tenancy import database

        return getattr(database, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
