"""A tenant that has left: everything on record of it goes, and nothing of anybody else."""

import pytest
from psycopg import sql

from cgk_tasks import cancel_job, create_schedule, send_job, tenant_context
from cgk_tasks.api_keys.keys import create_key
from cgk_tasks.builtin.tenant_settings import set_tenant_setting
from cgk_tasks.errors import ConfigurationError, TenantContextError, TenantError, UnknownRunError, UnknownTenantError
from cgk_tasks.flow.plans import set_tenant_limits
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy import add_tenant, remove_tenant, resume_tenant, suspend_tenant, tenant_cache
from cgk_tasks.tenancy.registry import require
from cgk_tasks.tenancy.store import KNOWN

pytestmark = pytest.mark.usefixtures("database")

SQL = statements("tenants")
ORDER = {"orderId": "o-1", "totalAmount": 1.0}


def tables():
    with autocommit() as connection:
        return [row["name"] for row in fetch(connection, SQL["tables_of_tenants"])]


def rows_of(tenant):
    """How many rows each table has of the tenant, of those that have any."""
    found = {}
    with autocommit() as connection:
        for table in tables():
            count = sql.SQL("SELECT count(*) FROM {} WHERE tenant_id = %s").format(sql.Identifier("cgk", table))
            if rows := connection.execute(count, [tenant]).fetchone()[0]:
                found[table] = rows
    return found


def schema_exists(tenant):
    with autocommit() as connection:
        return bool(fetch(connection, SQL["schema_exists"], {"name": tenant.schema_name}))


def busy(tenant):
    """A tenant of whom there is something on record of most kinds, and no open run."""
    made = add_tenant(tenant)
    for number in range(3):
        run = send_job("order.created", {"tenantId": tenant, **ORDER}, idempotency_key=f"key-{number}")
        cancel_job(run.id)
    create_key(tenant, ["read"])
    create_schedule(tenant, "order.created", "0 7 * * *", payload=ORDER)
    set_tenant_setting(tenant, "email_from", "shop@shop.example")
    set_tenant_limits(tenant, at_once=5)
    with tenant_context(tenant):
        tenant_cache().set("greeting", "hello")
    return made


def test_all_that_is_on_record_of_a_suspended_tenant_goes():
    busy("leaves-1")
    before = rows_of("leaves-1")
    assert {"api_keys", "tenant_schedules", "tenant_settings", "tenant_limits", "idempotency_keys"} <= set(before)
    assert any(table.startswith("run_history") for table in before)
    suspend_tenant("leaves-1")
    assert remove_tenant("leaves-1").rows > 0
    assert rows_of("leaves-1") == {}
    with pytest.raises(UnknownTenantError):
        send_job("order.created", {"tenantId": "leaves-1", **ORDER})


def test_what_is_on_record_of_others_stays():
    busy("leaves-2")
    busy("stays-2")
    before = rows_of("stays-2")
    suspend_tenant("leaves-2")
    remove_tenant("leaves-2", drop_schema=True)
    assert rows_of("stays-2") == before
    with tenant_context("stays-2"):
        assert tenant_cache().get("greeting") == b"hello"


def test_its_cache_is_empty_if_the_tenant_comes_again():
    busy("leaves-3")
    suspend_tenant("leaves-3")
    remove_tenant("leaves-3")
    add_tenant("leaves-3")
    with tenant_context("leaves-3"):
        assert tenant_cache().get("greeting") is None


def test_ids_that_begin_alike_keep_their_caches():
    busy("leaves")
    busy("leaves-4")
    suspend_tenant("leaves")
    remove_tenant("leaves")
    with tenant_context("leaves-4"):
        assert tenant_cache().get("greeting") == b"hello"


def test_its_schema_is_left_and_named():
    tenant = busy("leaves-5")
    suspend_tenant("leaves-5")
    assert remove_tenant("leaves-5").schema_left == tenant.schema_name
    assert schema_exists(tenant)


def test_its_schema_and_its_role_are_dropped_on_request():
    tenant = busy("leaves-6")
    suspend_tenant("leaves-6")
    assert remove_tenant("leaves-6", drop_schema=True).schema_left is None
    assert not schema_exists(tenant)
    with autocommit() as connection:
        assert not fetch(connection, SQL["find_role"], {"name": tenant.role_name})


def test_a_tenant_without_a_schema_of_its_own_keeps_its_rows_in_shared_tables():
    add_tenant("leaves-7", isolation="rls")
    suspend_tenant("leaves-7")
    with pytest.raises(TenantError, match="no schema of its own"):
        remove_tenant("leaves-7", drop_schema=True)
    assert remove_tenant("leaves-7").schema_left is None


def test_an_active_tenant_is_not_removed():
    busy("leaves-8")
    before = rows_of("leaves-8")
    with pytest.raises(TenantError, match="is active") as refused:
        remove_tenant("leaves-8")
    assert "tenants suspend leaves-8" in str(refused.value)
    assert rows_of("leaves-8") == before
    with tenant_context("leaves-8"):
        assert tenant_cache().get("greeting") == b"hello"


def test_a_tenant_with_open_runs_is_not_removed():
    add_tenant("leaves-9")
    suspend_tenant("leaves-9")
    run = send_job("order.created", {"tenantId": "leaves-9", **ORDER})
    with pytest.raises(TenantError, match="has 1 open run") as refused:
        remove_tenant("leaves-9")
    assert "runs cancel --matching 'tenant:leaves-9 state:open'" in str(refused.value)
    cancel_job(run.id)
    remove_tenant("leaves-9")
    with pytest.raises(UnknownRunError):
        cancel_job(run.id)


def test_a_tenant_that_was_never_there_is_unknown():
    add_tenant("leaves-10")
    with pytest.raises(UnknownTenantError, match='mean "leaves-10"'):
        remove_tenant("leavs-10")


def test_the_platform_is_no_tenant_that_could_be_removed():
    with pytest.raises(ConfigurationError, match="names the platform itself"):
        remove_tenant("platform", drop_schema=True)


def test_a_schema_of_everybody_is_not_dropped():
    """An early release let a tenant have it."""
    add_tenant("leaves-15", isolation="search_path")
    suspend_tenant("leaves-15")
    with autocommit() as connection:
        connection.execute("UPDATE cgk.tenants SET schema_name = 'cgk' WHERE id = 'leaves-15'")
    with pytest.raises(ConfigurationError, match="is not a tenant's"):
        remove_tenant("leaves-15", drop_schema=True)
    assert remove_tenant("leaves-15").schema_left == "cgk"


def test_what_a_process_sent_that_did_not_know_of_the_removal_goes_with_a_second_one():
    add_tenant("leaves-11")
    suspend_tenant("leaves-11")
    require("leaves-11")
    known = KNOWN.current()["leaves-11"]
    remove_tenant("leaves-11")
    KNOWN.current()["leaves-11"] = known  # as another process has it, for CGK_TENANTS_REFRESH_SECONDS
    run = send_job("order.created", {"tenantId": "leaves-11", **ORDER})
    with pytest.raises(TenantError, match="open run"):
        remove_tenant("leaves-11")
    cancel_job(run.id)
    assert remove_tenant("leaves-11").rows > 0
    assert rows_of("leaves-11") == {}


def test_a_tenant_that_the_platforms_query_lists_is_not_removed(setting):
    add_tenant("leaves-12")
    suspend_tenant("leaves-12")
    setting(CGK_TENANTS_QUERY="SELECT 'leaves-12'")
    with pytest.raises(ConfigurationError, match="lists tenant 'leaves-12'"):
        remove_tenant("leaves-12")


def test_no_tenant_removes_another_one():
    add_tenant("leaves-13")
    suspend_tenant("leaves-13")
    with tenant_context("acme"), pytest.raises(TenantContextError):
        remove_tenant("leaves-13")
    resume_tenant("leaves-13")


def test_the_audit_tells_who_was_removed():
    add_tenant("leaves-14")
    suspend_tenant("leaves-14")
    remove_tenant("leaves-14")
    with autocommit() as connection:
        actions = connection.execute("SELECT action FROM cgk.audit WHERE tenant_id = 'leaves-14' ORDER BY id")
        assert [action for (action,) in actions.fetchall()] == ["add tenant", "suspend tenant", "remove tenant"]
