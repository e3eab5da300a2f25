"""The examples of a report over all tenants, in this process, with the tables of real tenants."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from cgk_tasks import get_all_tenants, send_job, tenant_context, tenant_session
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.platform import ensure_platform_tenant
from tests.examples.summaries import SummaryDue

DAY, HOUR = timedelta(days=1), timedelta(hours=1)

THREE_IN_BERLIN = datetime(2026, 3, 2, 2, tzinfo=UTC)
SOLD_ON = date(2026, 3, 1)


@pytest.fixture
def sales(database, reports):
    """Each customer has sold for a hundred cents on the day of the report."""
    ensure_platform_tenant()
    with transaction() as connection:
        connection.execute("DROP TABLE IF EXISTS public.reports")
        connection.execute("CREATE TABLE public.reports (day date PRIMARY KEY, cents bigint, missing text[])")
        for tenant in get_all_tenants():
            connection.execute(f'SET LOCAL search_path TO "{tenant.schema_name}"')
            reports.create_tables(tenant, connection)
            connection.execute("TRUNCATE sales")
            connection.execute("INSERT INTO sales VALUES (%s, 100), (%s, 7)", (SOLD_ON, SOLD_ON - DAY))


@pytest.fixture
def globex_has_no_sales(sales):
    with transaction() as connection:
        connection.execute(f'DROP TABLE "{registry.require("globex").schema_name}".sales')


def written():
    with tenant_context("platform"), tenant_session() as session:
        return [tuple(row) for row in session.execute(text("SELECT day, cents, missing FROM reports"))]


def tick(local_jobs):
    local_jobs.send("cron.beginReport", {"tenantId": "platform"}, scheduled_for=THREE_IN_BERLIN)
    local_jobs.advance(HOUR)


def test_a_report_has_the_sales_of_all_customers_on_the_day_before(sales, local_jobs):
    tick(local_jobs)
    assert written() == [(SOLD_ON, 300, [])]


def test_a_report_names_those_of_whom_nothing_could_be_read(globex_has_no_sales, local_jobs):
    tick(local_jobs)
    assert written() == [(SOLD_ON, 200, ["globex"])]


def test_all_runs_of_a_report_are_the_platforms(sales, local_jobs):
    tick(local_jobs)
    assert {run.tenant_id for run in local_jobs.runs} == {"platform"}


def test_a_day_has_one_report(sales, local_jobs):
    tick(local_jobs)
    tick(local_jobs)
    assert [event.event_name for event in local_jobs.sent].count("report.due") == 1


def summarize(local_jobs):
    send_job(SummaryDue(tenant_id="platform", day="2026-03-01"))
    return local_jobs.advance(HOUR)


def test_a_summary_collects_what_runs_of_the_customers_own_have_found(sales, local_jobs):
    summary, *figures = summarize(local_jobs)
    assert summary.result == {"acme": 100, "globex": 100, "initech": 100}
    assert {run.tenant_id for run in figures} == {"acme", "globex", "initech"}


def test_a_summary_has_nothing_of_a_customer_whose_run_has_failed(globex_has_no_sales, local_jobs):
    assert summarize(local_jobs)[0].result == {"acme": 100, "globex": None, "initech": 100}
