"""What the buttons beside a tenant's API keys do. The audit has a key's prefix, name and scopes, and never the key."""

from __future__ import annotations

from datetime import timedelta

from cgk_tasks.api_keys import keys
from cgk_tasks.api_keys.keys import ApiKey
from cgk_tasks.dashboard.audit import recorded
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import UnknownKeyError


def make(user: User, tenant_id: str, scopes: str, *, name: str = "", days: int = 0) -> ApiKey:
    """Make a key. scopes: separated by spaces or commas. days: how long it counts; 0: without an end.

    Raises InvalidOptionError, UnknownTenantError.
    """
    with recorded(user, "create API key", subject=tenant_id, tenant_id=tenant_id) as entry:
        expires = timedelta(days=days) if days else None
        made = keys.create_key(tenant_id, scopes.replace(",", " ").split(), name=name, expires=expires, by=user.name)
        entry.affected, entry.message = 1, _said(made)
        return made


def rotate(user: User, tenant_id: str, key_id: str, *, keep_hours: int) -> ApiKey:
    """Make a key that takes the place of one, which counts for so many hours more. Raises UnknownKeyError,
    InvalidOptionError.
    """
    with recorded(user, "rotate API key", subject=key_id, tenant_id=tenant_id) as entry:
        old = _of_tenant(tenant_id, key_id)
        made = keys.rotate_key(old.id, keep_old=timedelta(hours=keep_hours), by=user.name)
        entry.affected, entry.message = 1, f"{old.prefix} counts for {keep_hours} h more; new: {_said(made)}"
        return made


def revoke(user: User, tenant_id: str, key_id: str) -> ApiKey:
    """End a key at once. Raises UnknownKeyError."""
    with recorded(user, "revoke API key", subject=key_id, tenant_id=tenant_id) as entry:
        revoked = keys.revoke_key(_of_tenant(tenant_id, key_id).id, by=user.name)
        entry.affected, entry.message = 1, _said(revoked)
        return revoked


def _of_tenant(tenant_id: str, key_id: str) -> ApiKey:
    """The address names the tenant too, and so does the audit: neither may be another one's."""
    found = next((key for key in keys.list_keys(tenant_id) if key.id == key_id), None)
    if found is None:
        raise UnknownKeyError(key_id)
    return found


def _said(key: ApiKey) -> str:
    return f"{key.prefix}{f' ({key.name})' if key.name else ''}: {' '.join(key.scopes)}"
