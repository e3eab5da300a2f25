"""Tenancy with a database login that is no superuser, as in production."""

import os

import psycopg
import pytest
import sqlalchemy as sa

from cgk_tasks import send_job, tenant_context
from cgk_tasks.config import get_settings, use_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events import OrderCreated
from cgk_tasks.migrations import migrate
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, close_pools, transaction
from cgk_tasks.tenancy import add_tenant, protect_table, registry, remove_tenant, suspend_tenant, tenant_session
from cgk_tasks.tenancy.database import TenantSession, enter_tenant, leave_tenant

DENIED = "permission denied"


@pytest.fixture
def as_administrator(services):
    def execute(statement: str) -> None:
        with psycopg.connect(services.database_url, autocommit=True) as connection:
            connection.execute(statement)

    return execute


@pytest.fixture
def login(database, monkeypatch, as_administrator):
    """A database of its own, and settings that reach it as a new login: `login("CREATEROLE")`."""
    made = []

    def become(rights: str) -> str:
        name = f"app_{os.urandom(4).hex()}"
        made.append(name)
        as_administrator(f"CREATE ROLE {name} LOGIN NOSUPERUSER PASSWORD 'secret' {rights}")
        as_administrator(f"CREATE DATABASE {name}")
        as_administrator(f"GRANT CREATE ON DATABASE {name} TO {name}")
        url = sa.make_url(get_settings().database).set(username=name, password="secret", database=name)
        monkeypatch.setenv("CGK_DATABASE_URL", url.render_as_string(hide_password=False))
        use_settings(None)
        registry.forget_known()
        migrate()
        return name

    yield become
    close_pools()
    monkeypatch.undo()
    use_settings(None)
    registry.forget_known()
    for name in made:
        as_administrator(f"DROP DATABASE {name}")


def test_a_login_with_createrole_can_migrate_add_tenants_and_confine_them(login):
    name = login("CREATEROLE")
    for tenant in ("one", "two"):
        add_tenant(f"{tenant}-{name}")
        with transaction() as connection:
            connection.execute(f'CREATE TABLE "tenant_{tenant}-{name}".secrets (owner text)')
    with tenant_context(f"one-{name}"), tenant_session() as session:
        session.execute(sa.text("INSERT INTO secrets VALUES ('one')"))
        assert session.execute(sa.text("SELECT current_user")).scalar() == f"cgk_tenant_one-{name}"
        with pytest.raises(sa.exc.ProgrammingError, match=DENIED):
            session.execute(sa.text(f'SELECT * FROM "tenant_two-{name}".secrets'))


def test_such_a_login_removes_a_tenant_with_its_schema_and_role(login):
    name = login("CREATEROLE")
    tenant = add_tenant(f"left-{name}")
    with transaction() as connection:
        connection.execute(f'CREATE TABLE "{tenant.schema_name}".secrets (owner text)')
    suspend_tenant(tenant.id)
    remove_tenant(tenant.id, drop_schema=True)
    with transaction() as connection:
        left = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [tenant.role_name]).fetchall()
        left += connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [tenant.schema_name]).fetchall()
    assert not left


def test_such_a_login_comes_back_from_a_tenants_role_to_record_the_end_of_a_run(login):
    name = login("CREATEROLE")
    tenant = add_tenant(f"one-{name}")
    run = send_job(OrderCreated(tenant_id=tenant.id, order_id="o-1", total_amount=1), delay=60)
    with tenant_context(tenant), TenantSession(tenant) as session:
        connection = session.connection()
        leave_tenant(connection)
        assert store.find(run.id, connection)["state"] == "scheduled"
        enter_tenant(connection, tenant)
        with pytest.raises(sa.exc.ProgrammingError, match=DENIED):
            store.find(run.id, connection)


def test_row_level_security_binds_the_login_that_owns_the_table(login, as_administrator):
    name = login("CREATEROLE")
    add_shared_role = "DO $$ BEGIN CREATE ROLE cgk_tenants NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    as_administrator(add_shared_role)  # it belongs to all databases of the server, so another login may have made it
    as_administrator(f"GRANT cgk_tenants TO {name}")
    with transaction() as connection:
        connection.execute("CREATE SCHEMA shared; CREATE TABLE shared.notes (tenant_id text, note text)")
        protect_table(connection, "shared.notes")
    tenants = [add_tenant(f"{n}-{name}", schema="shared", isolation="rls") for n in ("one", "two")]
    for tenant in tenants:
        with tenant_context(tenant), tenant_session() as session:
            session.execute(sa.text("INSERT INTO notes (note) VALUES ('mine')"))
            assert session.execute(sa.text("SELECT tenant_id FROM notes")).scalars().all() == [tenant.id]
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM shared.notes").fetchone() == (0,)


def test_a_login_without_createrole_is_told_what_to_do(login):
    name = login("NOCREATEROLE")
    with pytest.raises(ConfigurationError, match=f'ALTER ROLE "{name}" CREATEROLE.*CGK_TENANT_ISOLATION=search_path'):
        add_tenant(f"one-{name}")


def test_a_login_without_createrole_works_with_isolation_search_path(login):
    name = login("NOCREATEROLE")
    tenant = add_tenant(f"one-{name}", isolation="search_path")
    with tenant_context(tenant), tenant_session() as session:
        assert session.execute(sa.text("SELECT current_schema()")).scalar() == tenant.schema_name


def test_a_login_without_createrole_can_use_a_role_that_an_administrator_made(login, as_administrator):
    name = login("NOCREATEROLE")
    as_administrator(f'CREATE ROLE "cgk_tenant_one-{name}" NOLOGIN')
    as_administrator(f'GRANT "cgk_tenant_one-{name}" TO "{name}"')
    assert add_tenant(f"one-{name}").role_name == f"cgk_tenant_one-{name}"


def test_a_login_that_may_not_create_schemas_is_told_what_to_do(login, as_administrator):
    name = login("CREATEROLE")
    as_administrator(f'REVOKE CREATE ON DATABASE "{name}" FROM "{name}"')
    with pytest.raises(ConfigurationError, match="GRANT CREATE ON DATABASE"):
        add_tenant(f"one-{name}")
