"""A folder of its own for each tenant."""

from __future__ import annotations

from pathlib import Path

from cgk_tasks.config import get_settings
from cgk_tasks.errors import TenantContextError
from cgk_tasks.tenancy.context import current_tenant


def tenant_storage_path(*parts: str) -> Path:
    """A path inside the current tenant's folder; its parent folders are made.

    Raises TenantMissingError outside a tenant context, TenantContextError for a path that leads out of the folder,
    by `..`, as an absolute path or through a symbolic link.
    """
    # The tenant's own folder is not resolved: if it were a link, it would lead to another's.
    root = get_settings().storage_root.resolve() / current_tenant().id
    try:
        path = root.joinpath(*parts).resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # a loop of links, or a NUL character
        raise TenantContextError(f"The path {'/'.join(parts)!r} cannot be resolved: {exc}") from exc
    if path != root and root not in path.parents:
        raise TenantContextError(
            f"The path {'/'.join(parts)!r} leads out of the tenant's folder.", hint="Use a relative path without '..'."
        )
    (root if path == root else path.parent).mkdir(parents=True, exist_ok=True)
    return path
