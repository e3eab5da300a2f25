"""The context of a tenant, and what is confined to it: sessions, cache, storage, rows of shared tables."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, ResourceClosedError

from cgk_tasks import (
    current_tenant,
    platform_context,
    tenant_cache,
    tenant_context,
    tenant_storage_path,
)
from cgk_tasks.config import use_settings
from cgk_tasks.errors import (
    ConfigurationError,
    TenantContextError,
    TenantMissingError,
    UnknownTenantError,
)
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import (
    add_tenant,
    keep_tenant,
    protect_table,
    tenant_session,
)
from cgk_tasks.tenancy.database import TenantSession

pytestmark = pytest.mark.usefixtures("database")


# Threads


def test_a_thread_begins_without_a_tenant_and_the_error_names_what_takes_it_along():
    with tenant_context("acme"), ThreadPoolExecutor() as pool, pytest.raises(TenantMissingError, match="keep_tenant"):
        pool.submit(current_tenant).result()


def test_keep_tenant_takes_the_tenant_into_threads():
    with tenant_context("acme"), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(keep_tenant(lambda number: (current_tenant().id, number)), range(20)))
    assert found == [("acme", number) for number in range(20)]


def test_keep_tenant_keeps_it_after_the_context_has_ended():
    with tenant_context("acme"):
        later = keep_tenant(lambda: current_tenant().id)
    assert later() == "acme"


def test_keep_tenant_needs_a_tenant():
    with platform_context(), pytest.raises(TenantMissingError):
        keep_tenant(len)


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


def test_a_connection_that_was_kept_of_a_session_is_closed_with_it():
    with tenant_context("acme"), tenant_session() as session:
        kept = session.connection()
        kept.execute(text("SELECT 1"))
    with tenant_context("globex"), pytest.raises(ResourceClosedError):
        kept.execute(text("SELECT 1"))


@pytest.mark.parametrize("table", ["tenants", "run_history"])
def test_a_tenant_cannot_lock_what_adding_tenants_and_keeping_history_lock(table):
    with tenant_context("acme"), tenant_session() as session, pytest.raises(ProgrammingError, match="denied"):
        session.execute(text(f"LOCK TABLE cgk.{table} IN SHARE UPDATE EXCLUSIVE MODE"))


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
def storage(monkeypatch, database, tmp_path):
    monkeypatch.setenv("CGK_STORAGE_ROOT", str(tmp_path))
    use_settings(None)
    yield tmp_path
    monkeypatch.undo()
    use_settings(None)


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
    from cgk_tasks.sql.sqlalchemy_engine import engine

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
