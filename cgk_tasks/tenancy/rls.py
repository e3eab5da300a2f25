"""Row-level security for tables that all tenants share:
who works for a tenant sees that tenant's rows and no others.
"""

from __future__ import annotations

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import AnyConnection, Connection, Row, fetch, statements
from cgk_tasks.tenancy.confinement import ensure_role, let_in
from cgk_tasks.tenancy.names import SHARED_ROLE

SQL = statements("tenants")

POLICY = "cgk_tenant"

# Without a tenant the setting is NULL or empty, which equals no tenant's id: nothing is seen, nothing is written.
_PROTECTION = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS {policy} ON {table};
CREATE POLICY {policy} ON {table}
    USING ({column} = current_setting('cgk.tenant_id', true))
    WITH CHECK ({column} = current_setting('cgk.tenant_id', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}
"""
_DEFAULT = "ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nullif(current_setting('cgk.tenant_id', true), '')"


def protect_table(connection: AnyConnection, table: str, column: str = "tenant_id") -> None:
    """Protect a shared table's rows, and open the table to tenants with isolation `rls`. For migrations.

        protect_table(op.get_bind(), "orders")              # Alembic
        protect_table(connection, "billing.invoices", column="organization")

    table: as written in SQL; column: of type text, holds the tenant's id, and gets the current tenant as its default
    if it has none. Row-level security is enabled and forced, so it binds the owner too; only superusers and roles with
    BYPASSRLS see all rows. Safe to repeat; takes part in the transaction. Raises ConfigurationError.
    """
    raw = _driver_connection(connection)
    found = _find_table(raw, table, column)
    ensure_role(raw, SHARED_ROLE)
    names = {
        "table": sql.Identifier(found["schema"], found["name"]),
        "column": sql.Identifier(column),
        "policy": sql.Identifier(POLICY),
        "role": sql.Identifier(SHARED_ROLE),
    }
    try:
        raw.execute(sql.SQL(_PROTECTION).format(**names))
        if not found["has_default"]:
            raw.execute(sql.SQL(_DEFAULT).format(**names))
        let_in(raw, found["schema"], SHARED_ROLE)
        for sequence in fetch(raw, SQL["sequences_of_table"], {"table": found["oid"]}):
            grant = sql.SQL("GRANT USAGE, SELECT ON SEQUENCE {} TO {}")
            raw.execute(grant.format(sql.Identifier(sequence["schema"], sequence["name"]), names["role"]))
    except pg_errors.InsufficientPrivilege as exc:
        raise ConfigurationError(
            f"The login {raw.info.user!r} may not protect the table {table}: {exc.diag.message_primary}.",
            hint="Run this as the owner of the table.",
        ) from exc


def _driver_connection(connection: AnyConnection) -> Connection:
    if isinstance(connection, psycopg.Connection):
        return connection
    if not connection.in_transaction():
        connection.begin()  # else SQLAlchemy would not know that there is something to commit
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise ConfigurationError("protect_table works on a synchronous connection with the driver psycopg.")
    return raw


def _find_table(connection: Connection, table: str, column: str) -> Row:
    found = fetch(connection, SQL["find_table"], {"table": table, "column": column})
    if not found:
        raise ConfigurationError(f"There is no table {table}.", hint="Create it first, or name it with its schema.")
    row = found[0]
    if row["kind"] not in {"r", "p"}:
        raise ConfigurationError(f"{table} is not a table: only tables can be protected row by row.")
    if row["schema"] == "cgk":
        raise ConfigurationError(f"{table} is one of the tables of cgk_tasks, which tenants never see.")
    if row["type"] is None:
        raise ConfigurationError(f"The table {table} has no column {column}.", hint="Add it, or name the right one.")
    if row["type"] not in {"text", "character varying"}:
        raise ConfigurationError(f"The column {column} of {table} is {row['type']}; a tenant's id needs type text.")
    return row
