"""`prove_idempotent`: jobs that do everything once pass, and those that do not fail, with the place where it shows."""

import os
from types import SimpleNamespace

import pytest

from cgk_tasks import signal_run
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.tenancy import add_tenant
from cgk_tasks.tenancy.rls import protect_table
from cgk_tasks.testing import NotIdempotentError, prove_idempotent
from cgk_tasks.testing.executions import UNDISTURBED, Disturbance, Execution
from tests.conftest import ORDERS
from tests.integration import proven_jobs as jobs
from tests.support.waiting import wait_until

ORDER = {"orderId": "o-1"}


def tables(tenant, connection):
    """CGK_TENANT_SETUP of these tests."""
    connection.execute(ORDERS.format(schema=f'"{tenant.schema_name}"'))


@pytest.fixture(autouse=True)
def shop(database, setting):
    jobs.COUNTED.clear()
    jobs.PAID.clear()
    setting(CGK_TENANT_SETUP="tests.integration.test_idempotency:tables")


@pytest.fixture
def server(httpserver):
    httpserver.expect_request("/told").respond_with_data("ok")
    return SimpleNamespace(http=httpserver, order={**ORDER, "url": httpserver.url_for("/told")})


LEFT_OPEN = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


@pytest.fixture
def tenant():
    return lambda: add_tenant(f"proven-{os.urandom(3).hex()}")


def failures_of(job, payload=ORDER, **options):
    with pytest.raises(NotIdempotentError) as caught:
        prove_idempotent(job, payload, **options)
    return caught.value.failures


def test_a_job_that_writes_with_its_run_passes():
    proof = prove_idempotent(jobs.recorded, ORDER)
    assert proof.effects == ("table orders: 1", "runs: 2")
    assert "after transitions.claim_one" in proof.crash_points
    assert "after transitions.finish_one" in proof.crash_points
    assert "after the commit of what was written with ctx.db" in proof.crash_points
    assert "before the acknowledgement of the message" in proof.crash_points
    assert str(proof).startswith(f"proven.recorded is idempotent: {len(proof.crash_points)} crash points")


@pytest.mark.slow
def test_a_workflow_with_all_kinds_of_steps_passes():
    proof = prove_idempotent(
        jobs.journey, ORDER, watch={"payments": lambda: jobs.COUNTED.count("paid")},
        meanwhile=lambda run_id: signal_run(run_id, "approve", {"by": "ada"}),
    )  # fmt: skip
    assert (*sorted(proof.effects), proof.asked_for) == ("payments: 1", "runs: 2", "table orders: 3", ())
    assert "after step 'book', before steps.keep_steps" in proof.crash_points
    assert "before the record of the intent of effect 'pay'" in proof.crash_points
    assert "after the record of the wait for 'weeks'" in proof.crash_points


def test_a_coroutine_passes():
    assert "table orders: 2" in prove_idempotent(jobs.coroutine, ORDER).effects


@pytest.mark.slow
def test_a_coroutine_whose_branches_go_on_at_the_same_time_passes():
    proof = prove_idempotent(jobs.gathered, ORDER, watch={"payments": lambda: jobs.COUNTED.count("paid")})
    assert sorted(proof.effects) == ["payments: 1", "runs: 1", "table orders: 3"]
    with autocommit() as connection:
        wait_until(lambda: connection.execute(LEFT_OPEN).fetchone()[0] == 0, what="no transaction is left open")


def test_a_request_that_is_not_in_an_effect_is_made_twice(server):
    failures = failures_of(jobs.posts, server.order, http=server.http)
    problem = 'HTTP requests: 2 instead of 1, done twice (method=POST path=/told body={"order": "o-1"})'
    assert failures["crash before transitions.finish_one"] == [problem]
    assert "crash after transitions.claim_one" not in failures


def test_a_request_in_a_step_is_made_twice_where_the_step_is_not_on_record(server):
    failures = failures_of(jobs.posts_in_step, server.order, http=server.http)
    assert list(failures) == ["crash after step 'tell', before steps.keep_step"]


@pytest.mark.parametrize("job", [jobs.posts_with_key, jobs.posts_in_effect])
def test_a_request_with_a_key_counts_once(server, job):
    assert "HTTP requests: 1" in prove_idempotent(job, server.order, http=server.http).effects


def test_a_row_written_through_a_connection_of_its_own_is_there_twice():
    assert failures_of(jobs.own_connection)["crash before transitions.finish_one"] == [
        'table orders: 2 instead of 1, done twice (order_id="o-1" run_id=null amount=null note=null)'
    ]


def test_a_counter_in_the_process_counts_twice():
    failures = failures_of(jobs.counts, watch={"counter": lambda: len(jobs.COUNTED)})
    assert failures["crash before transitions.finish_one"] == ["counter: 2 instead of 1, done twice (counted=1)"]


def test_a_row_that_was_changed_twice_is_otherwise():
    def prepare(tenant):
        with autocommit() as connection:
            connection.execute(f"INSERT INTO \"{tenant.schema_name}\".orders VALUES ('o-1', NULL, 1)")

    (problem,) = failures_of(jobs.adds_up, prepare=prepare)["crash before transitions.finish_one"]
    assert problem.startswith("table orders: it is otherwise than without the crash")
    assert "amount=3" in problem


def test_what_is_said_to_be_done_before_it_is_may_be_lost():
    assert failures_of(jobs.marks_first)["crash before transitions.finish_one"] == [
        'table orders: 0 instead of 1, lost (order_id="o-1" run_id=null amount=null note="recorded")'
    ]


def test_a_run_that_is_sent_outside_of_the_transaction_is_sent_twice():
    assert failures_of(jobs.sends_outside)["crash before transitions.finish_one"] == [
        "runs: 3 instead of 2, done twice (event=test.provenMail job=proven.mail state=completed)"
    ]


def test_a_process_that_is_dead_writes_nothing_whatever_catches_its_death():
    assert "table orders: 1" in prove_idempotent(jobs.catches_all, ORDER).effects


def test_a_process_that_is_dead_commits_nothing_in_a_finally_either():
    failures = failures_of(jobs.writes_at_last)
    assert "crash before transitions.finish_one" in failures
    assert [where for where in failures if "step 'write'" in where] == []


def test_a_message_whose_acknowledgement_was_lost_comes_again_and_finds_nothing_to_do(tenant):
    acme = tenant()
    order = jobs.ProvenOrder(tenant_id=acme.id, order_id="o-1")
    usual = Execution("proven.recorded", order, acme, UNDISTURBED)
    usual.go()
    position = usual.passed.index("before the acknowledgement of the message")

    execution = Execution("proven.recorded", order, acme, Disturbance(die_at=position))
    assert execution.go().state == "completed"
    assert execution.died_at == "before the acknowledgement of the message"
    assert execution.passed_later[:3] == [
        "before transitions.claim_one", "after transitions.claim_one", "before transitions.claims_barred",
    ]  # fmt: skip


def test_a_limit_of_runs_at_once_does_not_keep_a_proof_from_its_end():
    assert "table orders: 1" in prove_idempotent(jobs.limited, ORDER).effects


@pytest.mark.parametrize("isolation", ["search_path", "role"])
def test_a_proof_knows_how_tenants_are_kept_apart(isolation):
    assert "table orders: 1" in prove_idempotent(jobs.recorded, ORDER, isolation=isolation).effects


@pytest.fixture
def shared_orders(setting):
    """A table that all tenants share, with numbers of a sequence."""
    setting(CGK_TENANT_SETUP=None)
    with transaction() as connection:
        connection.execute("CREATE TABLE orders (id serial, tenant_id text, order_id text, note text)")
        connection.execute("GRANT USAGE ON SEQUENCE orders_id_seq TO PUBLIC")
        protect_table(connection, "orders")
    yield
    with transaction() as connection:
        connection.execute("DROP TABLE orders")


def test_of_a_table_that_tenants_share_each_execution_counts_its_own_rows(shared_orders):
    assert "table orders: 1" in prove_idempotent(jobs.recorded, ORDER, isolation="rls").effects


def test_an_effect_of_which_a_person_is_asked_fails_without_a_decision_and_passes_with_one():
    failures = failures_of(jobs.asks)
    assert list(failures) == [
        "crash after the record of the intent of effect 'pay'", "crash after step 'pay', before steps.keep_step",
    ]  # fmt: skip
    assert any(
        "A person is asked whether effect 'pay' happened" in text for found in failures.values() for text in found
    )
    proof = prove_idempotent(jobs.asks, ORDER, decide=lambda _effect: {"outcome": "done", "result": "paid"})
    assert all(asked.startswith("pay, crash ") for asked in proof.asked_for)
    assert proof.asked_for


def test_an_effect_whose_answer_is_lost_is_looked_for_at_once():
    proof = prove_idempotent(jobs.unanswered, ORDER, watch={"payments": lambda: jobs.COUNTED.count("paid")})
    assert ("payments: 1" in proof.effects, proof.asked_for) == (True, ())


def test_a_job_that_fails_undisturbed_proves_nothing():
    with pytest.raises(AssertionError, match=r"does not complete, though nothing disturbs it: .*no such order"):
        prove_idempotent(jobs.fails, ORDER)


def test_a_job_that_differs_undisturbed_proves_nothing():
    squares = (number * number for number in range(100))
    with pytest.raises(AssertionError, match="something else each time"):
        prove_idempotent(jobs.mail, ORDER, watch=lambda: next(squares))


def test_a_job_that_never_runs_twice_is_refused():
    with pytest.raises(ConfigurationError, match="never runs twice"):
        prove_idempotent(jobs.once, ORDER)


def test_a_function_that_is_no_job_is_refused():
    with pytest.raises(ConfigurationError, match="is no job"):
        prove_idempotent(lambda ctx: None, jobs.ProvenOrder(tenant_id="acme", order_id="o-1"))


def test_without_a_database_it_says_so(setting):
    setting(CGK_DATABASE_URL=None, CGK_BROKER_URL=None, JOBS_PROVIDER="local")
    with pytest.raises(ConfigurationError, match="needs a database"):
        prove_idempotent(jobs.recorded, ORDER)


def test_nothing_is_watched_any_more_when_the_proof_is_made():
    before = list(door._observers), dict(door._guards)
    prove_idempotent(jobs.mail, ORDER)
    assert (list(door._observers), dict(door._guards)) == before
