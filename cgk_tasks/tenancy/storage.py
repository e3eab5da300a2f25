"""A folder of its own for each tenant."""

from __future__ import annotations

from pathlib import Path

from cgk_tasks.config import get_settings
from cgk_tasks.errors import TenantContextError
from cgk_tasks.tenancy.context import current_tenant


def tenant_storage_path(*parts: str) -> Path:
    """A path inside the current tenant's folder; its parent folders are made.

    Raises TenantMissingError outside a tenant context, TenantContextError for a path that leads out of the folder.
    """
    root = (get_settings().storage_root / current_tenant().id).resolve()
    path = root.joinpath(*parts).resolve()
    if path != root and root not in path.parents:
        raise TenantContextError(f"The path {'/'.join(parts)!r} leads out of the tenant's folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path == root:
        root.mkdir(exist_ok=True)
    return path
