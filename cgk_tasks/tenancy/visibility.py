"""What code may see and change: inside a tenant's context what is that tenant's alone, elsewhere all.

Whatever takes a run's id asks here. A run that cannot be seen is unknown, so nothing tells that there is one.
"""

from __future__ import annotations

from cgk_tasks.errors import TenantContextError
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.platform import is_platform


def sees_all() -> bool:
    """Whether this code works for no tenant, or for the platform, which works for all."""
    here = find_current_tenant()
    return here is None or is_platform(here)


def may_see(tenant_id: str) -> bool:
    """Whether runs of this tenant can be seen here."""
    here = find_current_tenant()
    return here is None or here.id == tenant_id or is_platform(here)


def refuse_in_context(what: str, of_tenant: str | None = None) -> None:
    """Raises TenantContextError inside a tenant's context: its code has nothing to do with what others may.

    of_tenant: whose it is, so that this tenant's own code may ask.
    """
    here = find_current_tenant()
    if here is not None and here.id != of_tenant and not sees_all():
        raise TenantContextError(
            f"{what} was asked for or changed in the context of tenant {here.id!r}.",
            hint="Code that works for all tenants uses platform_context().",
        )
