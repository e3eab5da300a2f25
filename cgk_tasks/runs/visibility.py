"""Whose runs can be seen: inside a tenant's context its own alone, elsewhere all.

Whatever takes a run's id asks here. A run that cannot be seen is unknown, so nothing tells that there is one.
"""

from __future__ import annotations

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
