"""A tenant's job cannot reach another tenant's data, in a real worker."""

import pytest

from cgk_tasks import send_job, tenant_cache, tenant_context
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import add_tenant, protect_table
from tests.support.tenancy_jobs import AsyncProbe, Probe, ProbeTelemetry
from tests.support.waiting import accepted, wait_closed, wait_until

ISOLATIONS = ("search_path", "role", "rls")
DENIED = "InsufficientPrivilege"
SECRETS = "SELECT owner FROM secrets"


def schema_of(tenant: str) -> str:
    return f"tenant_{tenant}"


def tenants_of(isolation: str) -> tuple[str, str]:
    name = isolation.replace("_", "-")
    return f"one-{name}", f"two-{name}"


@pytest.fixture(scope="module", autouse=True)
def tenants(database):
    """Two tenants of each isolation; each has one secret."""
    for isolation in ISOLATIONS:
        for name in tenants_of(isolation):
            add_tenant(name, isolation=isolation)
            if isolation != "rls":
                with transaction() as connection:
                    connection.execute(f'CREATE TABLE "{schema_of(name)}".secrets (owner text)')
                    connection.execute(f"INSERT INTO \"{schema_of(name)}\".secrets VALUES ('{name}')")
    with transaction() as connection:
        connection.execute("CREATE TABLE public.secrets (owner text NOT NULL)")
        connection.execute("CREATE TABLE public.unprotected (owner text)")
        protect_table(connection, "public.secrets", column="owner")
        for name in tenants_of("rls"):
            connection.execute("SELECT set_config('cgk.tenant_id', %s, true)", (name,))
            connection.execute("INSERT INTO public.secrets DEFAULT VALUES")
    yield
    with transaction() as connection:
        connection.execute("DROP TABLE public.secrets, public.unprotected")


@pytest.fixture(scope="module", autouse=True)
def worker(tenants, start_worker, tmp_path_factory):
    """One child: all runs of all tenants share one process and one pooled connection."""
    storage = tmp_path_factory.mktemp("storage")
    return start_worker(["tests.support.tenancy_jobs"], concurrency=1, CGK_STORAGE_ROOT=str(storage))


def run(tenant: str, how: str, statement: str = "", **fields):
    status = wait_closed(send_job(Probe(tenant_id=tenant, how=how, statement=statement, **fields)).id)
    assert status.state == "completed", status.error
    return status.result


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_job_reads_its_own_rows_by_an_unqualified_name(isolation):
    for tenant in tenants_of(isolation):
        assert run(tenant, "query", SECRETS) == [[tenant]]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_one_pooled_connection_serves_tenants_in_turn_without_mixing_them(isolation):
    one, two = tenants_of(isolation)
    handles = [
        (tenant, send_job(Probe(tenant_id=tenant, how="query", statement=SECRETS))) for tenant in [one, two] * 10
    ]
    assert [wait_closed(handle.id).result for _, handle in handles] == [[[tenant]] for tenant, _ in handles]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_job_that_rolled_back_an_error_is_still_confined(isolation):
    one, _ = tenants_of(isolation)
    assert run(one, "query_after_an_error", SECRETS) == [[one]]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_failed_job_leaves_nothing_behind_for_the_next_tenant(isolation):
    one, two = tenants_of(isolation)
    failed = wait_closed(send_job(Probe(tenant_id=one, how="fail_half_way", statement=SECRETS)).id)
    assert (failed.state, run(two, "query", SECRETS)) == ("failed", [[two]])


def test_role_another_tenants_table_is_denied_by_its_qualified_name():
    one, two = tenants_of("role")
    assert run(one, "query", f'SELECT owner FROM "{schema_of(two)}".secrets') == DENIED


def test_role_another_tenants_table_is_denied_after_an_error():
    one, two = tenants_of("role")
    assert run(one, "query_after_an_error", f'SELECT owner FROM "{schema_of(two)}".secrets') == DENIED


def test_role_another_tenants_table_cannot_be_written():
    one, two = tenants_of("role")
    assert run(one, "query", f'DELETE FROM "{schema_of(two)}".secrets') == DENIED


def test_rls_a_query_without_a_condition_sees_only_the_tenants_rows():
    one, _ = tenants_of("rls")
    assert run(one, "query", "SELECT count(*), min(owner) FROM public.secrets") == [[1, one]]


def test_rls_a_row_of_another_tenant_cannot_be_written():
    one, two = tenants_of("rls")
    assert run(one, "query", f"INSERT INTO secrets VALUES ('{two}')") == DENIED


def test_rls_another_tenants_row_cannot_be_changed_or_taken():
    one, two = tenants_of("rls")
    assert run(one, "query", f"UPDATE secrets SET owner = '{one}' WHERE owner = '{two}' RETURNING owner") == []


def test_rls_a_table_that_nobody_protected_is_closed():
    one, _ = tenants_of("rls")
    assert run(one, "query", "SELECT * FROM public.unprotected") == DENIED


def test_rls_a_schema_of_a_tenant_with_its_own_is_closed():
    one, _ = tenants_of("rls")
    assert run(one, "query", f'SELECT * FROM "{schema_of(tenants_of("role")[0])}".secrets') == DENIED


def test_search_path_alone_does_not_stop_a_qualified_name():
    """Written down because it is so: this isolation guards against a forgotten condition,
    not against a wrong schema.
    """
    one, two = tenants_of("search_path")
    assert run(one, "query", f'SELECT owner FROM "{schema_of(two)}".secrets') == [[two]]


@pytest.mark.parametrize("isolation", ["role", "rls"])
@pytest.mark.parametrize("table", ["runs", "run_history", "tenants", "idempotency_keys"])
def test_the_record_of_all_tenants_runs_is_closed_to_a_job(isolation, table):
    one, _ = tenants_of(isolation)
    assert run(one, "query", f"SELECT * FROM cgk.{table}") == DENIED


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_temporary_table_does_not_outlive_its_job(isolation):
    one, two = tenants_of(isolation)
    assert run(one, "query", "CREATE TEMPORARY TABLE scratch AS SELECT owner FROM secrets") == []
    assert run(two, "query", "SELECT * FROM scratch") == "UndefinedTable"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_search_path_that_a_job_changed_does_not_reach_the_next_tenant(isolation):
    one, two = tenants_of(isolation)
    run(one, "query", f"SET search_path TO '{schema_of(one)}'")
    assert run(two, "query", SECRETS) == [[two]]


@pytest.mark.parametrize("isolation", ["role", "rls"])
def test_a_job_can_send_in_its_own_transaction_and_stays_confined(isolation):
    one, _ = tenants_of(isolation)
    follow, record, own = run(one, "send_in_the_same_transaction", SECRETS)
    assert (record, own, wait_closed(follow).result) == (DENIED, [[one]], [[one]])


@pytest.fixture
def deferred_to_the_commit():
    """A trigger of a tenant's, which fires at the end of the transaction, and names its table without the schema."""
    tenant, _ = tenants_of("role")
    with transaction() as connection:
        connection.execute(f'SET LOCAL search_path TO "{schema_of(tenant)}"')
        connection.execute("CREATE TABLE sales (amount int); CREATE TABLE totals (who text, amount int)")
        connection.execute(
            "CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO totals VALUES (current_user, NEW.amount); RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER add_up AFTER INSERT ON sales DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION add_up()"
        )
    yield tenant
    with transaction() as connection:
        connection.execute(f'SET LOCAL search_path TO "{schema_of(tenant)}"')
        connection.execute("DROP TABLE sales, totals; DROP FUNCTION add_up")


def test_what_a_job_defers_to_the_commit_still_happens_as_its_tenant(deferred_to_the_commit):
    tenant = deferred_to_the_commit
    run(tenant, "query", "INSERT INTO sales VALUES (7)")
    assert run(tenant, "query", "SELECT * FROM totals") == [[f"cgk_tenant_{tenant}", 7]]


def test_a_run_sees_its_own_tenant_everywhere():
    one, two = tenants_of("role")
    assert [run(tenant, "who") for tenant in (one, two, one)] == [
        {"tenant": tenant, "setting": tenant, "schema": schema_of(tenant)} for tenant in (one, two, one)
    ]


def test_a_context_that_a_job_forgot_to_leave_ends_with_its_run():
    one, two = tenants_of("role")
    run(one, "forget_to_leave_a_context")
    assert run(two, "who")["tenant"] == two


def test_a_job_cannot_enter_another_tenants_context():
    one, two = tenants_of("role")
    assert run(one, "another_tenants_context", two) == "TenantContextError"


def test_tenants_do_not_share_cache_entries_or_files():
    one, two = tenants_of("role")
    assert [run(one, "cache"), run(two, "cache")] == [[None, one], [None, two]]
    assert run(one, "storage") != run(two, "storage")


def test_telemetry_runs_for_its_tenant_too():
    one, two = tenants_of("role")
    for tenant in (one, two):
        accepted(lambda tenant=tenant: send_job(ProbeTelemetry(tenant_id=tenant, key="telemetry")))
    for tenant in (one, two):
        with tenant_context(tenant):
            assert wait_until(lambda: tenant_cache().get("telemetry")) == tenant.encode()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_jobs_beside_each_other_in_one_process_see_only_their_own(threads, isolation):
    assert_apart(threads, [
        (tenant, Probe(tenant_id=tenant, how="beside_others", statement=SECRETS, beside=threads.expect(2)))
        for tenant in tenants_of(isolation)
    ])  # fmt: skip


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_async_jobs_on_one_event_loop_see_only_their_own(threads, isolation):
    assert_apart(threads, [
        (tenant, AsyncProbe(tenant_id=tenant, statement=SECRETS, beside=threads.expect(2)))
        for tenant in tenants_of(isolation)
    ])  # fmt: skip


class Threads:
    """A worker whose jobs are threads of one process, and how many jobs it has been given."""

    queue = "tenancy-threads"
    arrived = 0

    def expect(self, more: int) -> int:
        """How many jobs will have come once the `more` of this test are there."""
        return self.arrived + more


@pytest.fixture(scope="module")
def threads(tenants, start_worker):
    start_worker(["tests.support.tenancy_jobs"], concurrency=4, pool="threads", CGK_DEFAULT_QUEUE=Threads.queue)
    return Threads()


def assert_apart(threads, probes):
    handles = [(tenant, send_job(event, queue=threads.queue)) for tenant, event in probes]
    threads.arrived += len(probes)
    for tenant, handle in handles:
        status = wait_closed(handle.id)
        assert (status.state, status.result) == ("completed", [tenant]), status.error


# Ends of the transaction


@pytest.mark.parametrize("isolation", ["search_path", "role"])
def test_a_job_that_ended_its_transaction_fails_and_is_told_that_it_is_not_exactly_once(isolation):
    one, _ = tenants_of(isolation)
    status = wait_closed(send_job(Probe(tenant_id=one, how="end_the_transaction", statement=SECRETS)).id)
    with transaction() as connection:
        connection.execute(f"DELETE FROM \"{schema_of(one)}\".secrets WHERE owner = 'half'")
    assert (status.state, status.error_code) == ("failed", "TENANT_CONTEXT_ERROR")
    assert "not exactly once" in status.error["message"]


@pytest.mark.parametrize("isolation", ["search_path", "role"])
def test_a_hook_before_the_commit_writes_into_its_tenants_schema(isolation):
    one, _ = tenants_of(isolation)
    run(one, "listen_before_the_commit", "INSERT INTO secrets VALUES ('by the hook')")
    with transaction() as connection:
        deleted = connection.execute(f"DELETE FROM \"{schema_of(one)}\".secrets WHERE owner = 'by the hook'")
    assert deleted.rowcount == 1


@pytest.mark.parametrize("isolation", ["search_path", "role"])
def test_after_a_lost_checkpoint_the_session_is_confined_again(isolation):
    one, _ = tenants_of(isolation)
    assert run(one, "catch_a_lost_checkpoint") == [[one, schema_of(one)]]
