"""Names that no customer may have, wherever a tenant comes in."""

import pytest
from sqlalchemy import text

from cgk_tasks import tenant_context, tenant_session
from cgk_tasks.cli.doctor import work
from cgk_tasks.errors import ConfigurationError, UnknownTenantError
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import add_tenant, registry
from cgk_tasks.tenancy.platform import ensure_platform_tenant
from cgk_tasks.tenancy.sync import sync
from cgk_tasks.tenancy.visibility import sees_all

pytestmark = pytest.mark.usefixtures("database")

NOBODYS = ("platform", "public", "cgk", "cgk_beat", "cgk_tenants", "information_schema", "pg_catalog", "pg_mine")


def registered(tenant_id, schema, isolation="search_path", source="hand"):
    """A tenant as it is registered by a release that refused none of these names."""
    with transaction() as connection:
        connection.execute("DELETE FROM cgk.tenants WHERE id = %s", (tenant_id,))
        connection.execute(
            "INSERT INTO cgk.tenants (id, isolation, schema_name, source) VALUES (%s, %s, %s, %s)",
            (tenant_id, isolation, schema, source),
        )
    registry.forget_known()


@pytest.fixture(autouse=True)
def _leave_nothing():
    yield
    with transaction() as connection:
        connection.execute("DELETE FROM cgk.tenants WHERE id = ANY(%s)", ([*NOBODYS, "before"],))
    registry.forget_known()


@pytest.mark.parametrize("there_already", [False, True])
@pytest.mark.parametrize("isolation", ["search_path", "role", "rls"])
def test_nobody_can_be_added_as_the_platform(isolation, there_already):
    if there_already:
        ensure_platform_tenant()
    with pytest.raises(ConfigurationError, match="'platform'"):
        add_tenant("platform", isolation=isolation)
    ensure_platform_tenant()


@pytest.mark.parametrize("name", NOBODYS)
def test_no_customer_can_have_such_an_id(name):
    with pytest.raises(ConfigurationError, match="Give that customer another id"):
        add_tenant(name)


@pytest.mark.parametrize("name", [name for name in NOBODYS if name not in {"platform", "cgk_tenants"}])
def test_no_tenant_can_have_such_a_schema(name):
    with pytest.raises(ConfigurationError, match="schema"):
        add_tenant("wants-it", schema=name)


@pytest.mark.parametrize("pattern", ["cgk", "cgk_beat", "pg_{id}", "public"])
def test_the_setting_makes_no_such_schema(pattern, setting):
    setting(CGK_TENANT_SCHEMA=pattern)
    with pytest.raises(ConfigurationError, match="schema"):
        add_tenant("wants-it")


@pytest.mark.parametrize("name", NOBODYS)
def test_the_platforms_query_adds_no_such_id_and_adds_the_others(name, setting):
    other = f"beside-{name.replace('_', '-')}"
    setting(CGK_TENANTS_QUERY=f"SELECT '{name}' UNION SELECT '{other}'", CGK_TENANT_SCHEMA="{id}")
    sync()
    with pytest.raises(UnknownTenantError), tenant_context(name):
        pass
    with tenant_context(other):
        pass


def test_the_platforms_query_gives_no_tenant_such_a_schema(setting):
    setting(CGK_TENANTS_QUERY="SELECT 'wants-it', 'cgk_beat'")
    sync()
    with pytest.raises(UnknownTenantError), tenant_context("wants-it"):
        pass


@pytest.mark.parametrize("schema", ["cgk", "cgk_beat", "public", "pg_catalog"])
def test_a_tenant_that_has_such_a_schema_from_before_gets_no_session(schema):
    registered("before", schema)
    with pytest.raises(ConfigurationError, match=schema), tenant_context("before"), tenant_session() as session:
        session.execute(text("SELECT 1"))


def test_a_customer_who_has_the_platforms_id_from_before_is_not_the_platform():
    registered("platform", "tenant_platform")
    with tenant_context("platform"):
        assert not sees_all()


def test_the_doctor_names_tenants_with_such_names_from_before():
    registered("platform", "tenant_platform")
    registered("before", "cgk_beat")
    found = work.reserved_names()
    assert [one.message.partition(":")[0] for one in found] == ["before", "platform"]


def test_the_doctor_finds_nothing_wrong_with_others():
    ensure_platform_tenant()
    assert work.reserved_names() == []


def test_the_platform_whose_row_was_marked_as_a_customers_is_the_platform_again():
    registered("platform", "public")
    ensure_platform_tenant()
    with tenant_context("platform"), tenant_session() as session:
        assert session.execute(text("SELECT current_schema()")).scalar_one() == "public"
