"""What keeps tenants apart in PostgreSQL: the schema and role of each, and what the role may touch."""

from __future__ import annotations

import hashlib

from psycopg import errors as pg_errors
from psycopg import sql

from cgk_tasks.config import Isolation, Settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import Connection, fetch, statements
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.names import SHARED_ROLE, check_id, check_schema

SQL = statements("tenants")

_MAX_IDENTIFIER_BYTES = 63
_FIRST_VERSION_WITH_SET_OPTION = 160_000

_GRANTS = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {role}",
)


def plan(tenant_id: str, schema: str | None, isolation: Isolation, settings: Settings) -> Tenant:
    """The tenant as it would be registered. Raises ConfigurationError for an id or a schema that cannot be a
    tenant's.
    """
    check_id(tenant_id)
    role_name: str | None
    if isolation == "rls":
        schema_name, role_name = schema or "public", SHARED_ROLE
    else:
        schema_name = schema or _shortened(settings.tenant_schema.format(id=tenant_id))
        role_name = _shortened(f"cgk_tenant_{tenant_id}") if isolation == "role" else None
    if not schema_name or "\0" in schema_name or len(schema_name.encode()) > _MAX_IDENTIFIER_BYTES:
        raise ConfigurationError(f"{schema_name!r} cannot name a schema: use 1 to {_MAX_IDENTIFIER_BYTES} bytes.")
    tenant = Tenant(tenant_id, "active", isolation, schema_name, role_name)
    check_schema(tenant)
    return tenant


def _shortened(name: str) -> str:
    """The name, or its beginning and a hash: PostgreSQL would cut it at 63 bytes, which could make two tenants one.

    The `~` is in no tenant id, so a shortened name is never another tenant's full name.
    """
    if len(name.encode()) <= _MAX_IDENTIFIER_BYTES:
        return name
    return f"{name[:38]}~{hashlib.sha256(name.encode()).hexdigest()[:24]}"


def prepare(connection: Connection, tenant: Tenant) -> None:
    """Create the tenant's schema and role if they are missing, and let the role into the schema.

    Raises ConfigurationError, with the statement that helps, when the login may not do that.
    """
    _create_schema(connection, tenant)
    if tenant.role_name is not None:
        ensure_role(connection, tenant.role_name)
        grant(connection, tenant)


def grant(connection: Connection, tenant: Tenant) -> None:
    """Let a tenant's own role use everything in its schema, tables of later migrations included.

    On shared tables nothing is granted here: only `protect_table` opens a table, once its rows are protected.
    """
    if tenant.role_name is None:
        return
    if tenant.isolation == "rls":
        let_in(connection, tenant.schema_name, tenant.role_name)
        return
    names = {"schema": sql.Identifier(tenant.schema_name), "role": sql.Identifier(tenant.role_name)}
    try:
        for statement in _GRANTS:
            connection.execute(sql.SQL(statement).format(**names))
    except pg_errors.InsufficientPrivilege as exc:
        login = connection.info.user
        raise ConfigurationError(
            f"The login {login!r} may not open the schema {tenant.schema_name!r} to the role {tenant.role_name!r}: "
            f"{exc.diag.message_primary}.",
            hint="It must own the schema and what is in it; as an administrator, run: "
            f'ALTER SCHEMA "{tenant.schema_name}" OWNER TO "{login}", and the like for its tables.',
        ) from exc


def let_in(connection: Connection, schema: str, role: str) -> None:
    """USAGE on a schema, unless the role has it already: in `public` everybody has."""
    values = {"schema": schema, "role": role}
    if not fetch(connection, SQL["may_use_schema"], values)[0]["allowed"]:
        names = {"schema": sql.Identifier(schema), "role": sql.Identifier(role)}
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {schema} TO {role}").format(**names))


def _create_schema(connection: Connection, tenant: Tenant) -> None:
    # Asked first: IF NOT EXISTS wants the right to create schemas even where there is nothing to create.
    if fetch(connection, SQL["schema_exists"], {"name": tenant.schema_name}):
        return
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(tenant.schema_name)))
    except pg_errors.InsufficientPrivilege as exc:
        login, database = connection.info.user, connection.info.dbname
        raise ConfigurationError(
            f"The login {login!r} may not create the schema {tenant.schema_name!r} of tenant {tenant.id!r}.",
            hint=f'As an administrator, run: GRANT CREATE ON DATABASE "{database}" TO "{login}"',
        ) from exc


def ensure_role(connection: Connection, name: str) -> None:
    """Create a role that cannot log in if it is missing, and let this login act as it.

    Raises ConfigurationError when the login may not, or when the role has rights that no tenant may have.
    """
    try:
        _create_role(connection, name)
        right = "SET" if connection.info.server_version >= _FIRST_VERSION_WITH_SET_OPTION else "MEMBER"
        if not fetch(connection, SQL["may_act_as"], {"name": name, "right": right})[0]["allowed"]:
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(name)))
    except pg_errors.InsufficientPrivilege as exc:
        login = connection.info.user
        raise ConfigurationError(
            f"The login {login!r} may not create or use the role {name!r}, which confines a tenant.",
            hint=f'As an administrator, run: ALTER ROLE "{login}" CREATEROLE; or make the role yourself and run: '
            f'GRANT "{name}" TO "{login}". To do without roles, which is weaker: CGK_TENANT_ISOLATION=search_path',
        ) from exc


def _create_role(connection: Connection, name: str) -> None:
    found = fetch(connection, SQL["find_role"], {"name": name})
    if not found:
        try:
            with connection.transaction():
                statement = sql.SQL("CREATE ROLE {} NOLOGIN NOSUPERUSER NOBYPASSRLS")
                connection.execute(statement.format(sql.Identifier(name)))
        except (pg_errors.DuplicateObject, pg_errors.UniqueViolation):
            # Roles belong to all databases of a server: another one made it a moment ago.
            found = fetch(connection, SQL["find_role"], {"name": name})
    if found and found[0]["is_unfit"]:
        raise ConfigurationError(
            f"The role {name!r} exists and can log in, is a superuser or bypasses row-level security: it confines "
            "nobody.",
            hint=f'As an administrator, run: ALTER ROLE "{name}" NOLOGIN NOSUPERUSER NOBYPASSRLS',
        )
