"""The pytest plugin, used by the test suite of a small application in a process of its own."""

import os
import subprocess
import sys

import pytest

CONFTEST = 'pytest_plugins = ["cgk_tasks.testing.plugin"]'

SHOP = """
from sqlalchemy import text

from cgk_tasks import JobContext, define_job
from cgk_tasks.events import OrderCreated


def create_tables(tenant, connection):
    connection.execute("CREATE TABLE orders (order_id text)")


@define_job("record-order", event="order.created")
def record_order(ctx: JobContext[OrderCreated]) -> None:
    ctx.db.execute(text("INSERT INTO orders VALUES (:id)"), {"id": ctx.payload.order_id})


COUNTED = []


@define_job("count-orders", event="order.delivered")
def count_orders(ctx) -> None:
    COUNTED.append(ctx.payload.order_id)
"""

TESTS = """
import os

import pytest
from shop import COUNTED, count_orders, record_order
from sqlalchemy import text

from cgk_tasks import PermanentError, get_job_status, send_job, tenant_context, tenant_session
from cgk_tasks.errors import UnknownTenantError
from cgk_tasks.events import OrderCancelled, OrderCreated, OrderDelivered
from cgk_tasks.tenancy import TenantSession
from cgk_tasks.testing import NotIdempotentError, run_job

MARKED = []


def order(tenant):
    return OrderCreated(tenant_id=tenant.id, order_id="o-1", total_amount=5)


def orders(tenant):
    with tenant_context(tenant), tenant_session() as session:
        return session.execute(text("SELECT order_id FROM orders")).scalars().all()


def test_ctx_db_commits_when_the_job_returns(tenant):
    acme = tenant("acme")
    run_job(record_order, order(acme))
    assert orders(acme) == ["o-1"]


def test_ctx_db_is_rolled_back_when_the_job_raises(tenant):
    def write_and_fail(ctx):
        record_order(ctx)
        raise PermanentError("after the write")

    acme = tenant("acme")
    with pytest.raises(PermanentError):
        run_job(write_and_fail, order(acme))
    assert orders(acme) == []


def test_a_session_of_the_tests_own_is_neither_committed_nor_closed(tenant):
    acme = tenant("acme")
    with tenant_context(acme), TenantSession(acme) as session:
        run_job(record_order, order(acme), db=session)
        written = session.execute(text("SELECT order_id FROM orders")).scalars().all()
        session.rollback()
        left = session.execute(text("SELECT order_id FROM orders")).scalars().all()
    assert (written, left) == (["o-1"], [])


def test_a_job_that_runs_locally_sees_its_own_tenants_tables_only(tenant, local_jobs):
    acme, globex = tenant("acme"), tenant("globex")
    stolen = f'SELECT count(*) FROM "{globex.schema_name}".orders'
    local_jobs.client.register_handler("order.cancelled", lambda ctx: ctx.db.execute(text(stolen)).scalar())
    send_job(OrderCancelled(tenant_id=acme.id, order_id="o-1"))
    (run,) = local_jobs.wait_idle()
    assert (run.state, run.error_code) == ("failed", "PERMISSION_DENIED")


def send_with_the_job(ctx):
    record_order(ctx)
    return send_job(OrderCancelled(tenant_id=ctx.tenant_id, order_id="o-1"), session=ctx.db).id


def send_and_fail(ctx):
    send_with_the_job(ctx)
    raise PermanentError("after the send")


def names(local_jobs):
    return [event.event_name for event in local_jobs.sent]


def test_what_a_job_sends_with_its_session_runs_after_its_commit(tenant, local_jobs):
    acme = tenant("acme")
    seen = []
    local_jobs.client.register_handler("order.cancelled", lambda ctx: seen.append(orders(acme)))
    run_job(send_with_the_job, order(acme))
    local_jobs.wait_idle()
    assert (names(local_jobs), seen) == (["order.cancelled"], [["o-1"]])


def test_what_a_job_sends_with_its_session_is_gone_when_it_raises(tenant, local_jobs):
    with pytest.raises(PermanentError):
        run_job(send_and_fail, order(tenant("acme")))
    assert names(local_jobs) == []


def test_jobs_that_run_locally_send_with_their_session_too(tenant, local_jobs):
    local_jobs.client.register_handler("order.delivered", send_with_the_job)
    acme = tenant("acme")
    local_jobs.client.send(OrderDelivered(tenant_id=acme.id, order_id="o-1"))
    assert [run.event for run in local_jobs.wait_idle()] == ["order.delivered", "order.cancelled"]


def test_sends_join_the_session_of_the_test(tenant, local_jobs):
    acme = tenant("acme")
    with tenant_context(acme), TenantSession(acme) as session:
        first = run_job(send_with_the_job, order(acme), db=session)
        before = names(local_jobs)
        session.rollback()
        second = run_job(send_with_the_job, order(acme), db=session)
        session.commit()
    assert (before, [run.id for run in local_jobs.runs]) == ([], [second])


def test_a_send_in_a_savepoint_goes_with_it(tenant, local_jobs):
    acme = tenant("acme")
    with tenant_context(acme), tenant_session() as session:
        with session.begin_nested():
            send_job(OrderCancelled(tenant_id=acme.id, order_id="kept"), session=session)
        savepoint = session.begin_nested()
        send_job(OrderCancelled(tenant_id=acme.id, order_id="gone"), session=session)
        savepoint.rollback()
    assert [event.order_id for event in local_jobs.sent] == ["kept"]


def test_a_key_that_was_used_in_the_session_or_before_makes_no_second_run(tenant, local_jobs):
    acme = tenant("acme")
    event = OrderCancelled(tenant_id=acme.id, order_id="o-1")
    with tenant_context(acme), tenant_session() as session:
        first = send_job(event, session=session, idempotency_key="once")
        second = send_job(event, session=session, idempotency_key="once")
    third = send_job(event, idempotency_key="once")
    assert (second.id, third.id, second.deduplicated, len(local_jobs.sent)) == (first.id, first.id, True, 1)


def test_without_local_jobs_a_send_with_the_session_is_on_record_after_the_commit(tenant):
    run = run_job(send_with_the_job, order(tenant("acme")))
    assert get_job_status(run).state == "pending"


def test_an_unregistered_tenant_gets_no_session(cgk_services):
    with pytest.raises(UnknownTenantError):
        run_job(record_order, OrderCreated(tenant_id="nobody", order_id="o-1", total_amount=5))


def test_each_tenant_is_another(tenant):
    assert tenant("acme").id != tenant("acme").id


def test_sends_are_recorded_in_the_private_database(tenant, cgk_services):
    run = send_job(order(tenant()))
    assert get_job_status(run.id).state == "pending"


@pytest.mark.idempotent(record_order, {"orderId": "o-1", "totalAmount": 5})
def test_a_job_with_the_marker_is_proved():
    MARKED.append("the body")


def test_the_body_of_a_marked_test_came_first():
    assert MARKED == ["the body"]


@pytest.mark.xfail(strict=True, raises=NotIdempotentError)
@pytest.mark.idempotent(count_orders, {"orderId": "o-1"}, watch=lambda: len(COUNTED))
def test_a_job_that_does_something_twice_fails_by_the_marker(): ...


def test_processes_that_the_test_starts_see_the_same_services(cgk_services):
    assert os.environ["CGK_DATABASE_URL"] == cgk_services.database_url
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The output of the application's own test run."""
    folder = tmp_path_factory.mktemp("application")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "shop.py").write_text(SHOP)
    (folder / "test_shop.py").write_text(TESTS)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CGK_", "JOB", "PYTEST"))}
    env |= {"CGK_TENANT_SETUP": "shop:create_tables", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:randomly", "-p", "no:cacheprovider", "test_shop.py"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    "name", [line[4:].partition("(")[0] for line in TESTS.splitlines() if line.startswith("def test_")]
)
def test_in_an_application(report, name):
    outcome = "XFAIL" if name.endswith("by_the_marker") else "PASSED"
    assert f"test_shop.py::{name} {outcome}" in report, report
