"""The registry of tenants: adding them by hand, and finding them with the platform's own query."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import text

from cgk_tasks import (
    send_job,
    tenant_context,
)
from cgk_tasks.errors import (
    ConfigurationError,
    InvalidTenantError,
    UnknownTenantError,
)
from cgk_tasks.events import OrderCreated
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.tenancy import (
    active_tenants,
    add_tenant,
    get_all_tenants,
    resume_tenant,
    suspend_tenant,
    tenant_session,
)
from cgk_tasks.tenancy.sync import is_sync_due, sync_and_log
from cgk_tasks.worker.background import Background
from tests.support.waiting import wait_until
from tests.support.workers import ROOT

pytestmark = pytest.mark.usefixtures("database")


# Adding


def test_a_tenant_gets_a_schema_and_a_role_of_its_own():
    tenant = add_tenant("adds-1")
    assert (tenant.schema_name, tenant.role_name, tenant.isolation) == ("tenant_adds-1", "cgk_tenant_adds-1", "role")


def test_adding_a_tenant_again_changes_nothing():
    assert add_tenant("adds-2") == add_tenant("adds-2")


def test_adding_a_tenant_again_with_another_isolation_is_refused():
    add_tenant("adds-3")
    with pytest.raises(ConfigurationError, match="isolation 'role'"):
        add_tenant("adds-3", isolation="rls")


def test_ids_that_differ_in_one_separator_are_different_tenants():
    names = {(t.schema_name, t.role_name) for t in (add_tenant("x-y"), add_tenant("x_y"))}
    assert names == {("tenant_x-y", "cgk_tenant_x-y"), ("tenant_x_y", "cgk_tenant_x_y")}


def test_ids_as_long_as_allowed_that_differ_in_the_last_letter_stay_apart():
    tenants = [add_tenant("l" * 62 + last) for last in "ab"]
    for tenant in tenants:
        with transaction() as connection:
            connection.execute(f"CREATE TABLE \"{tenant.schema_name}\".own AS SELECT '{tenant.id[-1]}' AS letter")
    assert [_letter(tenant) for tenant in tenants] == ["a", "b"]


def _letter(tenant):
    with tenant_context(tenant), tenant_session() as session:
        return session.execute(text("SELECT letter FROM own")).scalar_one()


def test_a_tenant_called_tenants_does_not_get_the_shared_role():
    assert add_tenant("tenants").role_name == "cgk_tenant_tenants"


@pytest.mark.parametrize("schema", ["cgk", "public", "pg_catalog", "information_schema", "", "s" * 64])
def test_a_schema_that_is_not_a_tenants_is_refused(schema):
    with pytest.raises(ConfigurationError, match="schema"):
        add_tenant("wrong-schema", schema=schema or "\0")


def test_two_tenants_cannot_have_one_schema():
    add_tenant("house-1", schema="house")
    with pytest.raises(ConfigurationError, match="belongs to another tenant"):
        add_tenant("house-2", schema="house")


def test_a_login_role_of_that_name_is_not_taken_for_a_tenants():
    with transaction() as connection:
        connection.execute('CREATE ROLE "cgk_tenant_intruder" LOGIN')
    with pytest.raises(ConfigurationError, match="confines nobody"):
        add_tenant("intruder")


@pytest.mark.parametrize("tenant_id", ["", "Acme", "-acme", "a" * 64, "a b", 'a"b', "a;b", "é", 7, None])
def test_a_malformed_id_is_refused(tenant_id):
    with pytest.raises(InvalidTenantError):
        add_tenant(tenant_id)


def test_several_processes_may_add_the_same_tenant_at_once():
    program = "from cgk_tasks.tenancy import add_tenant; [add_tenant(f'crowd-{n}') for n in range(5)]"
    crowd = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(p.communicate()[1].decode(), p.returncode) for p in crowd] == [("", 0)] * 3
    assert sum(tenant.id.startswith("crowd-") for tenant in active_tenants()) == 5


def test_several_threads_may_add_tenants_on_shared_tables_at_once():
    with ThreadPoolExecutor(6) as pool:
        tenants = list(pool.map(lambda n: add_tenant(f"shared-{n}", isolation="rls"), range(6)))
    assert {tenant.role_name for tenant in tenants} == {"cgk_tenants"}


def test_the_set_up_hook_works_in_the_tenants_schema_and_its_tables_are_the_tenants(setting):
    setting(CGK_TENANT_SETUP="tests.support.tenant_setup:make_widgets")
    tenant = add_tenant("hooked")
    with tenant_context(tenant), tenant_session() as session:
        session.execute(text("INSERT INTO widgets (name) VALUES ('one')"))
        assert session.execute(text("SELECT id, name FROM widgets")).all() == [(1, "one")]


def test_a_set_up_that_fails_leaves_no_tenant_behind(setting):
    setting(CGK_TENANT_SETUP="tests.support.tenant_setup:fail")
    with pytest.raises(ZeroDivisionError):
        add_tenant("unhooked")
    with pytest.raises(UnknownTenantError), tenant_context("unhooked"):
        pass


def test_a_set_up_hook_that_does_not_exist_is_named(setting):
    setting(CGK_TENANT_SETUP="tests.support.tenant_setup:nothing")
    with pytest.raises(ConfigurationError, match="CGK_TENANT_SETUP"):
        add_tenant("unhooked")


# The platform's own query


@pytest.fixture
def organizations(setting):
    """The platform's table, from which CGK_TENANTS_QUERY reads."""
    with transaction() as connection:
        connection.execute("CREATE TABLE organizations (slug text, schema text, active bool DEFAULT true)")
        connection.execute("INSERT INTO organizations VALUES ('org-keep')")
    setting(
        CGK_TENANTS_QUERY="SELECT slug, schema FROM organizations WHERE active", CGK_TENANTS_REFRESH_SECONDS="0.001"
    )
    yield run_sql
    with transaction() as connection:
        connection.execute("DROP TABLE organizations")


def run_sql(statement):
    with autocommit() as connection:
        connection.execute(statement)


def status(tenant_id):
    with autocommit() as connection:
        return connection.execute("SELECT status, source FROM cgk.tenants WHERE id = %s", (tenant_id,)).fetchone()


def test_a_tenant_of_the_platform_is_found_when_it_is_first_sent_to(organizations):
    organizations("INSERT INTO organizations VALUES ('org-new')")
    send_job(OrderCreated(tenant_id="org-new", order_id="o-1", total_amount=1), delay=3600)
    assert status("org-new") == ("active", "query")


def test_a_second_column_names_the_schema(organizations):
    organizations("INSERT INTO organizations VALUES ('org-schema', 'their_schema')")
    with tenant_context("org-schema") as tenant:
        assert tenant.schema_name == "their_schema"


def test_an_id_that_the_platform_does_not_list_is_unknown(organizations):
    with pytest.raises(UnknownTenantError):
        send_job(OrderCreated(tenant_id="org-nobody", order_id="o-1", total_amount=1))


def test_a_tenant_is_suspended_when_the_platform_no_longer_lists_it_and_resumed_when_it_does(organizations):
    organizations("INSERT INTO organizations VALUES ('org-leaves')")
    active_tenants()
    organizations("UPDATE organizations SET active = false WHERE slug = 'org-leaves'")
    active_tenants()
    gone = status("org-leaves")[0]
    organizations("UPDATE organizations SET active = true WHERE slug = 'org-leaves'")
    active_tenants()
    assert (gone, status("org-leaves")[0]) == ("suspended", "active")


def test_a_tenant_added_by_hand_is_left_alone_by_the_query(organizations):
    add_tenant("by-hand")
    active_tenants()
    assert status("by-hand") == ("active", "hand")


def test_a_listed_tenant_that_is_then_added_by_hand_is_left_alone_from_then_on(organizations):
    organizations("INSERT INTO organizations VALUES ('org-adopted')")
    active_tenants()
    add_tenant("org-adopted")
    organizations("DELETE FROM organizations WHERE slug = 'org-adopted'")
    active_tenants()
    assert status("org-adopted") == ("active", "hand")


def test_what_a_person_suspended_the_query_does_not_resume(organizations):
    organizations("INSERT INTO organizations VALUES ('org-bad-payer')")
    active_tenants()
    suspend_tenant("org-bad-payer", by="billing")
    active_tenants()
    suspended = status("org-bad-payer")[0]
    resume_tenant("org-bad-payer")
    assert (suspended, status("org-bad-payer")[0]) == ("suspended", "active")


def test_all_tenants_are_the_suspended_ones_too_and_not_the_platform():
    add_tenant("asleep")
    suspend_tenant("asleep")
    states = {tenant.id: tenant.state for tenant in get_all_tenants()}
    assert (states["asleep"], "platform" in states) == ("suspended", False)
    assert "asleep" not in {tenant.id for tenant in active_tenants()}


def test_an_empty_answer_suspends_nobody(organizations):
    active_tenants()
    organizations("DELETE FROM organizations")
    active_tenants()
    assert status("org-keep")[0] == "active"


def test_a_malformed_id_in_the_answer_does_not_keep_the_others_out(organizations):
    organizations("INSERT INTO organizations VALUES ('Not An Id'), ('org-after-bad')")
    with tenant_context("org-after-bad"):
        pass


def test_the_dispatchers_look_at_the_query_does_not_hold_it_up(organizations):
    organizations("INSERT INTO organizations VALUES ('org-in-background')")
    assert is_sync_due(0)
    Background().start("tenants", partial(sync_and_log, 0))
    assert wait_until(lambda: status("org-in-background")) == ("active", "query")


def test_a_tenant_whose_set_up_fails_does_not_keep_the_others_out(organizations, setting):
    organizations("INSERT INTO organizations VALUES ('org-broken', 'cgk'), ('org-whole', NULL)")
    assert "org-whole" in {tenant.id for tenant in active_tenants()}
    assert status("org-broken") is None


def test_a_query_that_fails_says_so(organizations, setting):
    setting(CGK_TENANTS_QUERY="SELECT slug FROM organisations")
    with pytest.raises(ConfigurationError, match="CGK_TENANTS_QUERY failed"):
        send_job(OrderCreated(tenant_id="org-other", order_id="o-1", total_amount=1))
