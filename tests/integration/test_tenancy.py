"""The registry of tenants, their contexts, and what is confined to them."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from cgk_tasks import (
    current_tenant,
    platform_context,
    send_job,
    tenant_cache,
    tenant_context,
    tenant_storage_path,
)
from cgk_tasks.config import use_settings
from cgk_tasks.errors import (
    ConfigurationError,
    InvalidTenantError,
    TenantContextError,
    TenantMissingError,
    UnknownTenantError,
)
from cgk_tasks.events import OrderCreated
from cgk_tasks.postgres import autocommit, transaction
from cgk_tasks.tenancy import (
    active_tenants,
    add_tenant,
    protect_table,
    resume_tenant,
    suspend_tenant,
    tenant_session,
)
from cgk_tasks.tenancy.database import TenantSession
from tests.support.workers import ROOT

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def settings(monkeypatch, database):
    """Set variables for one test: `settings(CGK_X="1")`."""

    def change(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        use_settings(None)

    yield change
    monkeypatch.undo()
    use_settings(None)


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
            connection.execute(f'CREATE TABLE "{tenant.schema_name}".own AS SELECT \'{tenant.id[-1]}\' AS letter')
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


def test_the_set_up_hook_works_in_the_tenants_schema_and_its_tables_are_the_tenants(settings):
    settings(CGK_TENANT_SETUP="tests.support.tenant_setup:make_widgets")
    tenant = add_tenant("hooked")
    with tenant_context(tenant), tenant_session() as session:
        session.execute(text("INSERT INTO widgets (name) VALUES ('one')"))
        assert session.execute(text("SELECT id, name FROM widgets")).all() == [(1, "one")]


def test_a_set_up_that_fails_leaves_no_tenant_behind(settings):
    settings(CGK_TENANT_SETUP="tests.support.tenant_setup:fail")
    with pytest.raises(ZeroDivisionError):
        add_tenant("unhooked")
    with pytest.raises(UnknownTenantError), tenant_context("unhooked"):
        pass


def test_a_set_up_hook_that_does_not_exist_is_named(settings):
    settings(CGK_TENANT_SETUP="tests.support.tenant_setup:nothing")
    with pytest.raises(ConfigurationError, match="CGK_TENANT_SETUP"):
        add_tenant("unhooked")


# The platform's own query


@pytest.fixture
def organizations(settings):
    """The platform's table, from which CGK_TENANTS_QUERY reads."""
    with transaction() as connection:
        connection.execute("CREATE TABLE organizations (slug text, schema text, active bool DEFAULT true)")
        connection.execute("INSERT INTO organizations VALUES ('org-keep')")
    settings(
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


def test_an_empty_answer_suspends_nobody(organizations):
    active_tenants()
    organizations("DELETE FROM organizations")
    active_tenants()
    assert status("org-keep")[0] == "active"


def test_a_malformed_id_in_the_answer_does_not_keep_the_others_out(organizations):
    organizations("INSERT INTO organizations VALUES ('Not An Id'), ('org-after-bad')")
    with tenant_context("org-after-bad"):
        pass


def test_a_query_that_fails_says_so(organizations, settings):
    settings(CGK_TENANTS_QUERY="SELECT slug FROM organisations")
    with pytest.raises(ConfigurationError, match="CGK_TENANTS_QUERY failed"):
        send_job(OrderCreated(tenant_id="org-other", order_id="o-1", total_amount=1))


# Contexts


def test_outside_a_context_nothing_of_a_tenants_is_given_out():
    for ask in (
        current_tenant,
        lambda: tenant_session().__enter__(),
        lambda: tenant_cache().get("x"),
        lambda: tenant_cache().set("x", "y"),
        lambda: tenant_storage_path("x"),
    ):
        with pytest.raises(TenantMissingError):
            ask()


def test_the_context_of_an_unknown_tenant_names_the_nearest():
    with pytest.raises(UnknownTenantError, match='Did you mean "globex"'), tenant_context("globx"):
        pass


def test_another_tenants_context_inside_one_is_refused():
    with tenant_context("acme"), pytest.raises(TenantContextError, match="platform_context"), tenant_context("globex"):
        pass


def test_the_same_tenants_context_may_be_opened_again():
    with tenant_context("acme"), tenant_context("acme") as tenant:
        assert tenant.id == "acme"


def test_in_the_platforms_context_there_is_no_tenant():
    with tenant_context("acme"), platform_context(), pytest.raises(TenantMissingError):
        current_tenant()


def test_in_the_platforms_context_tenants_may_be_visited_one_after_another():
    with tenant_context("acme"):
        with platform_context():
            visited = []
            for name in ("globex", "initech"):
                with tenant_context(name) as tenant:
                    visited.append(tenant.id)
        assert [*visited, current_tenant().id] == ["globex", "initech", "acme"]


def test_a_context_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), tenant_context("acme"):
        _ = 1 / 0
    with pytest.raises(TenantMissingError):
        current_tenant()


def test_a_new_thread_has_no_tenant():
    seen = []
    with tenant_context("acme"):
        # An empty context, as threads have it by default before Python 3.14.
        thread = threading.Thread(target=lambda: contextvars.Context().run(lambda: seen.append(_tenant_or_none())))
        thread.start()
        thread.join()
    assert seen == [None]


def test_coroutines_of_two_tenants_do_not_see_each_other():
    async def work(name):
        with tenant_context(name):
            await asyncio.sleep(0.001)
            return current_tenant().id

    async def both():
        return await asyncio.gather(*(work(name) for name in ("acme", "globex") * 10))

    assert asyncio.run(both()) == ["acme", "globex"] * 10


def _tenant_or_none():
    try:
        return current_tenant().id
    except TenantMissingError:
        return None


# Sessions


def test_a_session_that_was_kept_is_refused_in_another_tenants_context():
    with tenant_context("acme") as tenant:
        kept = TenantSession(tenant)
        kept.execute(text("SELECT 1"))
    with kept, tenant_context("globex"), pytest.raises(TenantContextError, match="tenant 'acme'"):
        kept.execute(text("SELECT 1"))


def test_a_session_that_was_kept_is_refused_outside_of_a_context():
    with tenant_context("acme") as tenant:
        kept = TenantSession(tenant)
    with pytest.raises(TenantContextError, match="outside"):
        kept.execute(text("SELECT 1"))


def test_a_tenants_session_commits_at_the_end_and_rolls_back_on_an_exception():
    with tenant_context("acme"):
        with tenant_session() as session:
            session.execute(text("INSERT INTO orders (order_id) VALUES ('kept')"))
        with pytest.raises(ZeroDivisionError), tenant_session() as session:
            session.execute(text("INSERT INTO orders (order_id) VALUES ('lost')")) and 1 / 0
        with tenant_session() as session:
            found = session.execute(text("SELECT order_id FROM orders WHERE order_id IN ('kept', 'lost')")).scalars()
            assert list(found) == ["kept"]


def test_a_session_is_confined_again_in_each_of_its_transactions():
    with tenant_context("acme") as tenant, TenantSession(tenant) as session:
        paths = []
        for _ in range(3):
            paths.append(session.execute(text("SELECT current_schema(), current_user")).one())
            session.commit()
    assert paths == [("tenant_acme", "cgk_tenant_acme")] * 3


# Cache and storage


def test_a_cache_name_that_looks_like_another_tenants_key_stays_inside():
    with tenant_context("acme"):
        tenant_cache().set("name", "acme's")
        own_key = tenant_cache().key("name")
    with tenant_context("globex"):
        for name in (own_key, "../acme:name", "acme:name", ":acme:name"):
            assert tenant_cache().get(name) is None


def test_a_cache_entry_ends_when_it_is_deleted():
    with tenant_context("acme"):
        tenant_cache().set("short", b"\x00\xff", seconds=60)
        assert (tenant_cache().get("short"), tenant_cache().delete("short")) == (b"\x00\xff", True)
        assert (tenant_cache().get("short"), tenant_cache().delete("short")) == (None, False)


@pytest.fixture
def storage(settings, tmp_path):
    settings(CGK_STORAGE_ROOT=str(tmp_path))
    return tmp_path


def test_a_path_is_inside_the_tenants_folder_and_its_parents_are_there(storage):
    with tenant_context("acme"):
        path = tenant_storage_path("invoices", "2026", "1.pdf")
    assert (path, path.parent.is_dir()) == (storage / "acme" / "invoices" / "2026" / "1.pdf", True)


@pytest.mark.parametrize("path", ["../globex/secret", "a/../../globex", "/etc/passwd", "..", "a/b/../../../x", "nul\0"])
def test_a_path_that_leads_out_is_refused(storage, path):
    with tenant_context("acme"), pytest.raises(TenantContextError):
        tenant_storage_path(path)


def test_a_link_that_leads_out_is_refused(storage):
    with tenant_context("acme"):
        tenant_storage_path("door").symlink_to(storage / "globex")
        with pytest.raises(TenantContextError):
            tenant_storage_path("door", "secret")


def test_a_tenants_folder_that_is_a_link_to_anothers_is_refused(storage):
    (storage / "globex").mkdir()
    (storage / "acme").symlink_to(storage / "globex")
    with tenant_context("acme"), pytest.raises(TenantContextError):
        tenant_storage_path("secret")


# Tables that tenants share


@pytest.fixture
def shared_table():
    with transaction() as connection:
        connection.execute("CREATE TABLE invoices (id serial, tenant_id text NOT NULL, sum int)")
        protect_table(connection, "invoices")
    add_tenant("rls-a", isolation="rls")
    add_tenant("rls-b", isolation="rls")
    yield
    with transaction() as connection:
        connection.execute("DROP TABLE invoices")


def test_a_row_without_a_tenant_gets_the_current_one(shared_table):
    with tenant_context("rls-a"), tenant_session() as session:
        inserted = session.execute(text("INSERT INTO invoices (sum) VALUES (1) RETURNING tenant_id")).scalar()
    assert inserted == "rls-a"


def test_protecting_a_table_again_is_harmless(shared_table):
    with transaction() as connection:
        protect_table(connection, "public.invoices")


def test_a_table_can_be_protected_from_an_alembic_migration(shared_table):
    from cgk_tasks.postgres import engine

    with engine().connect() as connection:
        protect_table(connection, "invoices")
        connection.rollback()
        protect_table(connection, "invoices")
        connection.commit()


@pytest.mark.parametrize(
    ("table", "column", "problem"),
    [
        ("no_such_table", "tenant_id", "no table"),
        ("invoices", "customer", "no column"),
        ("invoices", "sum", "type text"),
        ("cgk.runs", "tenant_id", "cgk_tasks"),
        ("pg_stats", "tablename", "not a table"),
    ],
)
def test_what_cannot_be_protected_is_refused(shared_table, table, column, problem):
    with pytest.raises(ConfigurationError, match=problem), transaction() as connection:
        protect_table(connection, table, column=column)
