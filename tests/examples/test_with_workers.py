"""The examples with a real worker: as they are, on the ways that end at once."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from cgk_tasks import get_all_tenants, send_job, tenant_context, tenant_session
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.schedules.lookup import find_schedule
from cgk_tasks.sql.postgres import transaction
from tests.examples.approvals import CreatorSignedUp, app, links
from tests.examples.orders import OrderPacked, OrderPaid, OrderReturned, OrderShipped
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow

SHOP = {"SECRET_KEY": "only-for-tests", "SHOP_URL": "https://shop.example"}
THREE_IN_BERLIN = datetime(2026, 3, 2, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def worker(start_worker, reports):
    modules = [f"tests.examples.{name}" for name in ("orders", "approvals", "reports")]
    started = start_worker(modules, **{f"FLASK_{name}": value for name, value in SHOP.items()})
    wait_until(lambda: "order.returned" in AWAITED.current().current())
    return started


@pytest.fixture
def browser(worker):
    app.config.update(SHOP)
    return app.test_client()


@pytest.fixture
def tables(database, reports):
    with transaction() as connection:
        connection.execute("CREATE TABLE public.reports (day date PRIMARY KEY, cents bigint, missing text[])")
        for tenant in get_all_tenants():
            connection.execute(f'SET LOCAL search_path TO "{tenant.schema_name}"')
            reports.create_tables(tenant, connection)
            connection.execute("INSERT INTO sales VALUES ('2026-03-01', 100)")


def test_an_order_is_packed_shipped_and_returned(worker):
    run_id = send_job(OrderPaid(tenant_id="acme", order_id="o-1", email="ada@example.com")).id
    wait_state(run_id, "scheduled")
    send_job(OrderPacked(tenant_id="acme", order_id="o-1"))
    send_job(OrderShipped(tenant_id="acme", order_id="o-1"))
    send_job(OrderReturned(tenant_id="acme", order_id="o-1"))
    assert wait_closed(run_id).result == "returned"


def test_a_decision_comes_from_the_view_to_the_workflow(browser):
    run_id = send_job(CreatorSignedUp(tenant_id="acme", creator_id="ada")).id
    wait_state(run_id, "scheduled")
    link = f"/decisions/{links().dumps(run_id)}"
    decided = [browser.post(link, data={"accepted": answer, "by": "grace"}).status_code for answer in ("yes", "no")]
    assert (decided, wait_closed(run_id).result) == ([200, 409], "grace has accepted")


def test_a_tick_makes_a_report_over_all_tenants(worker, tables):
    fire(find_schedule("begin-report"), THREE_IN_BERLIN, now=THREE_IN_BERLIN)

    def written():
        with tenant_context("platform"), tenant_session() as session:
            return [tuple(row) for row in session.execute(text("SELECT cents, missing FROM reports"))]

    assert wait_until(written) == [(300, [])]
