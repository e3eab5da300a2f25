"""Tenancy: the registry of tenants, the context that says whose work runs, and what is confined to it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cgk_tasks.extras import require_extra
from cgk_tasks.tenancy.context import current_tenant, keep_tenant, platform_context, tenant_context
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.registry import active_tenants, get_all_tenants

if TYPE_CHECKING:
    from cgk_tasks.tenancy.adding import add_tenant
    from cgk_tasks.tenancy.cache import TenantCache, tenant_cache
    from cgk_tasks.tenancy.database import TenantSession, tenant_session
    from cgk_tasks.tenancy.removing import remove_tenant
    from cgk_tasks.tenancy.rls import protect_table
    from cgk_tasks.tenancy.storage import tenant_storage_path
    from cgk_tasks.tenancy.suspending import resume_tenant, suspend_tenant

_NOT_FOR_A_SEND = {
    "TenantCache": "cache",
    "TenantSession": "database",
    "add_tenant": "adding",
    "protect_table": "rls",
    "remove_tenant": "removing",
    "resume_tenant": "suspending",
    "suspend_tenant": "suspending",
    "tenant_cache": "cache",
    "tenant_session": "database",
    "tenant_storage_path": "storage",
}
"""In which modules these are, which are imported when they are first used."""

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
    "remove_tenant",
    "resume_tenant",
    "suspend_tenant",
    "tenant_cache",
    "tenant_context",
    "tenant_session",
    "tenant_storage_path",
]


def __getattr__(name: str) -> Any:
    home = _NOT_FOR_A_SEND.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == "database":
        require_extra("worker", name)  # sessions load SQLAlchemy
    return getattr(import_module(f"{__name__}.{home}"), name)
