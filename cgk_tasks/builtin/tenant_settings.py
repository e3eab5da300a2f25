"""What a tenant has instead of the platform's: its sender, its credentials. Never in logs, messages or lists.

Credentials are stored encrypted; a sender's address, which every recipient sees, as it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import SecretStr

from cgk_tasks.builtin.secrets.sealing import seal, unseal
from cgk_tasks.config import get_settings
from cgk_tasks.config.nearest import nearest
from cgk_tasks.errors import InvalidOptionError, PermanentError
from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements, transaction
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.audit import note

SQL = statements("tenant_settings")

NAMES: Final = ("email_from", "push_url", "slack_url", "smtp_url", "sms_url")
"""What can be set for a tenant: the settings of the built-in jobs, by their names in `Settings`."""

_PUBLIC: Final = "email_from"

PER_TENANT: Final = "per-tenant"
"""The value of a setting that is on, but that only tenants have."""


def set_tenant_setting(tenant_id: str, name: str, value: SecretStr | str) -> None:
    """Give a tenant its own value of a setting in NAMES, in place of the platform's. Runs that begin later use it.

    Raises UnknownTenantError, InvalidOptionError; ConfigurationError for a credential without a key to encrypt it.
    """
    tenant = registry.require(tenant_id)
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not text.strip():
        raise InvalidOptionError(_checked(name), "the value is empty.", hint="To remove it, use remove_tenant_setting.")
    stored = text.strip()
    if _checked(name) != _PUBLIC:
        stored = seal(stored, tenant_id=tenant.id, name=name)
    values = {"tenant_id": tenant.id, "name": name, "value": stored}
    with transaction() as connection:
        execute(connection, SQL["set_setting"], values)
        note(connection, "set tenant's setting", name, tenant_id=tenant.id)


def remove_tenant_setting(tenant_id: str, name: str) -> bool:
    """Let the platform's value hold for a tenant again. Returns whether it had one of its own."""
    values = {"tenant_id": registry.require(tenant_id).id, "name": _checked(name)}
    with transaction() as connection:
        had = execute(connection, SQL["remove_setting"], values) > 0
        if had:
            note(connection, "remove tenant's setting", name, tenant_id=values["tenant_id"])
        return had


def list_tenant_settings(tenant_id: str) -> dict[str, datetime]:
    """The names of a tenant's own settings, and when each was last changed."""
    values = {"tenant_id": registry.require(tenant_id).id}
    with autocommit() as connection:
        return {row["name"]: row["changed_at"] for row in fetch(connection, SQL["list_settings"], values)}


def settings_of(tenant_id: str, *names: str) -> dict[str, str]:
    """What holds for a tenant of these settings of NAMES: its own values over the platform's.

    Raises SecretUnreadableError.
    """
    settings = get_settings()
    found: dict[str, str] = {}
    for name in names:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text and text != PER_TENANT:
            found[name] = text
    if settings.database_url is not None:  # the local provider needs none
        with autocommit() as connection:
            rows = fetch(connection, SQL["get_settings"], {"tenant_id": tenant_id, "names": list(names)})
        for row in rows:
            name, stored = row["name"], row["value"]
            found[name] = stored if name == _PUBLIC else unseal(stored, tenant_id=tenant_id, name=name)
    return found


def required(settings: dict[str, str], name: str, tenant_id: str) -> str:
    """One of them. Raises PermanentError (NOT_CONFIGURED) that says how to set it."""
    if name not in settings:
        raise PermanentError(
            f"Tenant {tenant_id!r} has no {name}, and neither has the platform.",
            "NOT_CONFIGURED",
            hint=(f"Set CGK_{name.upper()}, or run: cgk-tasks tenants set {tenant_id} {name}"),
        )
    return settings[name]


def _checked(name: str) -> str:
    if name not in NAMES:
        near = nearest(name, NAMES)
        hint = f" Did you mean {near}?" if near else ""
        raise InvalidOptionError(name, f"a tenant can have its own {', '.join(NAMES)}.{hint}")
    return name
