"""Adding a tenant: its row, its schema and role, and the application's own set-up."""

from __future__ import annotations

from typing import Literal

import psycopg
from psycopg import errors as pg_errors

from cgk_tasks.config import Isolation, get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.sql.postgres import Connection, execute, explain, fetch, transaction
from cgk_tasks.tenancy import confinement
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.setup import find_hook, run_hook
from cgk_tasks.tenancy.store import KNOWN, SQL, tenant_of

Source = Literal["hand", "query", "platform"]
"""Who put a tenant into the registry; the platform's query suspends only those that it found itself."""


def add_tenant(
    tenant_id: str, *, schema: str | None = None, isolation: Isolation | None = None, source: Source = "hand"
) -> Tenant:
    """Register a tenant: its schema and role are created if missing, then CGK_TENANT_SETUP runs in its schema.

    Safe to repeat, also by several processes at once. Everything happens in one transaction. Raises InvalidTenantError;
    ConfigurationError when the login may not create roles, when another tenant has the schema, or when the tenant is
    there already with another schema or isolation than asked for; StoreError.
    """
    settings = get_settings()
    wanted = confinement.plan(validate_tenant_id(tenant_id), schema, isolation or settings.tenant_isolation, settings)
    hook = find_hook(settings)
    try:
        with transaction() as connection:
            tenant = _register(connection, wanted, source)
            if schema is not None or isolation is not None:
                _check_asked(tenant, schema, isolation)
            confinement.prepare(connection, tenant)
            if hook is not None:
                run_hook(hook, tenant, connection)
            execute(connection, SQL["unlock_new_schema"], {"schema": wanted.schema_name})
    except psycopg.OperationalError as exc:
        raise explain(exc) from exc
    KNOWN.current().pop(tenant.id, None)
    return tenant


def _register(connection: Connection, wanted: Tenant, source: Source) -> Tenant:
    """The row in the registry; one that was there before wins over what is wanted now."""
    values = {
        "id": wanted.id, "isolation": wanted.isolation, "schema_name": wanted.schema_name,
        "role_name": wanted.role_name, "source": source,
    }  # fmt: skip
    try:
        execute(connection, SQL["lock_new_schema"], {"schema": wanted.schema_name})
        if execute(connection, SQL["add_tenant"], values) and source == "hand":
            note(connection, "add tenant", wanted.id, tenant_id=wanted.id)
    except pg_errors.UniqueViolation as exc:
        raise ConfigurationError(
            f"The schema {wanted.schema_name!r} belongs to another tenant, so {wanted.id!r} cannot have it.",
            hint="Name another one, and check that CGK_TENANT_SCHEMA contains {id}.",
        ) from exc
    except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn) as exc:
        raise explain(exc) from exc
    return tenant_of(fetch(connection, SQL["get_tenant"], {"id": wanted.id})[0])


def _check_asked(tenant: Tenant, schema: str | None, isolation: Isolation | None) -> None:
    if (schema or tenant.schema_name) == tenant.schema_name and (isolation or tenant.isolation) == tenant.isolation:
        return
    raise ConfigurationError(
        f"Tenant {tenant.id!r} is registered with schema {tenant.schema_name!r} and isolation {tenant.isolation!r}.",
        hint="That is not changed by adding it again: leave these options out.",
    )
