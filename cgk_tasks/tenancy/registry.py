"""Which tenants there are: the table `cgk.tenants`, fed by `cgk-tasks tenants add` or by a query of the platform's own."""

from __future__ import annotations

import difflib
import hashlib
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psycopg
import structlog
from psycopg import sql

from cgk_tasks.config import Isolation, Settings, get_settings
from cgk_tasks.errors import ConfigurationError, UnknownTenantError
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.postgres import Connection, Row, autocommit, execute, explain, fetch, statements, transaction
from cgk_tasks.tenancy.models import Tenant

SQL = statements("tenants")
log = structlog.get_logger("cgk_tasks.tenancy")

_MAX_IDENTIFIER = 63
_known: dict[str, tuple[float, Tenant]] = {}
_synced_at = 0.0
_sync_lock = threading.Lock()


def require(tenant_id: object) -> Tenant:
    """The tenant with this id, at most `tenants_refresh_seconds` old.

    Raises InvalidTenantError (malformed), UnknownTenantError (not registered) or StoreError.
    """
    if isinstance(tenant_id, str) and (known := _known.get(tenant_id)) and known[0] > time.monotonic():
        return known[1]
    wanted = validate_tenant_id(tenant_id)
    try:
        tenant = _find(wanted)
        if tenant is None and get_settings().tenants_query and sync(max_age_seconds=1.0):
            tenant = _find(wanted)
        if tenant is None:
            near = difflib.get_close_matches(wanted, [known.id for known in all_tenants()], n=1)
            raise UnknownTenantError(wanted, near[0] if near else None)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    _known[wanted] = (time.monotonic() + get_settings().tenants_refresh_seconds, tenant)
    return tenant


def forget_known() -> None:
    """Forget what this process knows about tenants; the next look asks the database."""
    _known.clear()


def _find(tenant_id: str) -> Tenant | None:
    with autocommit() as connection:
        rows = fetch(connection, SQL["get_tenant"], {"id": tenant_id})
    return _tenant(rows[0]) if rows else None


def _tenant(row: Row) -> Tenant:
    return Tenant(row["id"], row["status"], row["isolation"], row["schema_name"], row["role_name"])


def all_tenants() -> list[Tenant]:
    """Every tenant, suspended ones included."""
    with autocommit() as connection:
        return [_tenant(row) for row in fetch(connection, SQL["list_tenants"])]


def active_tenants() -> list[Tenant]:
    """The tenants that are active now, from the registry (and from CGK_TENANTS_QUERY, if set)."""
    if get_settings().tenants_query:
        sync(max_age_seconds=get_settings().tenants_refresh_seconds)
    with autocommit() as connection:
        return [_tenant(row) for row in fetch(connection, SQL["active_tenants"])]


def add_tenant(tenant_id: str, *, schema: str | None = None, isolation: Isolation | None = None) -> Tenant:
    """Register a tenant: its schema and role are created if missing, then CGK_TENANT_SETUP runs in its schema.

    Safe to repeat. Everything happens in one transaction.
    """
    settings = get_settings()
    tenant = _planned(validate_tenant_id(tenant_id), schema, isolation or settings.tenant_isolation, settings)
    setup = _setup_hook(settings)
    with transaction() as connection:
        execute(
            connection,
            SQL["add_tenant"],
            {
                "id": tenant.id,
                "isolation": tenant.isolation,
                "schema_name": tenant.schema_name,
                "role_name": tenant.role_name,
            },
        )
        # The row that was there before wins over what was asked for now.
        tenant = _tenant(fetch(connection, SQL["get_tenant"], {"id": tenant.id})[0])
        prepare(connection, tenant)
        if setup is not None:
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(tenant.schema_name)))
            setup(tenant, connection)
            grant(connection, tenant)
    _known.pop(tenant.id, None)
    return tenant


def _planned(tenant_id: str, schema: str | None, isolation: Isolation, settings: Settings) -> Tenant:
    schema_name = schema or ("public" if isolation == "rls" else settings.tenant_schema.format(id=tenant_id))
    role_name = None
    if isolation == "role":
        role_name = _short(f"cgk_{tenant_id}")
    elif isolation == "rls":
        role_name = RLS_ROLE
    return Tenant(tenant_id, "active", isolation, _short(schema_name), role_name)


RLS_ROLE = "cgk_tenants"
"""The one role that all tenants on shared tables use; the tables' policies read `cgk.tenant_id`."""


def _short(name: str) -> str:
    """PostgreSQL cuts identifiers at 63 bytes, which could make two tenants one: shorten by a hash instead."""
    if len(name.encode()) <= _MAX_IDENTIFIER:
        return name
    return f"{name[:46]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def prepare(connection: Connection, tenant: Tenant) -> None:
    """Create the tenant's schema and role if they are missing."""
    schema = sql.Identifier(tenant.schema_name)
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    if tenant.role_name is None:
        return
    exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (tenant.role_name,)).fetchone()
    if exists is None:
        connection.execute(
            sql.SQL("CREATE ROLE {} NOLOGIN NOSUPERUSER NOBYPASSRLS").format(sql.Identifier(tenant.role_name))
        )
    connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(tenant.role_name)))
    grant(connection, tenant)


def grant(connection: Connection, tenant: Tenant) -> None:
    """Let the tenant's role use everything in its own schema, tables of later migrations included."""
    if tenant.role_name is None:
        return
    names = {"schema": sql.Identifier(tenant.schema_name), "role": sql.Identifier(tenant.role_name)}
    for grant_sql in (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {role}",
    ):
        connection.execute(sql.SQL(grant_sql).format(**names))


def _setup_hook(settings: Settings) -> Callable[[Tenant, Connection], Any] | None:
    path = settings.tenant_setup
    if not path:
        return None
    module_name, _, function = path.partition(":")
    try:
        hook: Callable[[Tenant, Connection], Any] = getattr(import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigurationError(f"CGK_TENANT_SETUP={path!r} cannot be loaded ({exc}). Write it as module:function.") from exc
    return hook


def suspend_tenant(tenant_id: str, by: str = "") -> Tenant:
    """Hold the tenant's runs: nothing new starts, sends are accepted and wait. Raises UnknownTenantError."""
    return _set_status(tenant_id, "suspended", by)


def resume_tenant(tenant_id: str) -> Tenant:
    """Let the tenant's held runs go on; the dispatcher hands them over within a second. Raises UnknownTenantError."""
    return _set_status(tenant_id, "active", "")


def _set_status(tenant_id: str, status: str, by: str) -> Tenant:
    require(tenant_id)
    with autocommit() as connection:
        rows = fetch(connection, SQL["set_tenant_status"], {"id": tenant_id, "status": status, "by": by})
    _known.pop(tenant_id, None)
    return _tenant(rows[0])


def sync(max_age_seconds: float = 0.0) -> bool:
    """Feed the registry from CGK_TENANTS_QUERY, unless that was done less than `max_age_seconds` ago.

    New ids are added, ids that are gone are suspended (never deleted). An empty answer changes nothing: a platform
    without customers is less likely than a broken query. Returns whether the query ran.
    """
    global _synced_at  # noqa: PLW0603
    query = get_settings().tenants_query
    if query is None:
        return False
    with _sync_lock:
        if time.monotonic() - _synced_at < max_age_seconds:
            return False
        with autocommit() as connection:
            rows = connection.execute(query).fetchall()  # type: ignore[call-overload]  # the operator's own setting
        listed = {validate_tenant_id(row[0]): (row[1] if len(row) > 1 else None) for row in rows}
        if not listed:
            log.warning("tenants_query_is_empty", hint="CGK_TENANTS_QUERY listed no tenant; the registry stays as it is")
            return True
        known = {tenant.id for tenant in all_tenants()}
        for tenant_id, schema in listed.items():
            if tenant_id not in known:
                add_tenant(tenant_id, schema=schema)
        with transaction() as connection:
            execute(connection, SQL["suspend_missing_tenants"], {"ids": list(listed)})
            fetch(connection, SQL["resume_listed_tenants"], {"ids": list(listed)})
        _known.clear()
        _synced_at = time.monotonic()
    return True
