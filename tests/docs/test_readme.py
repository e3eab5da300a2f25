"""The README's example works, and its figures are those that were measured."""

import subprocess
import sys

import pytest
from sqlalchemy import text

from cgk_tasks import cancel_run, tenant_context, tenant_session
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy.models import presumed
from cgk_tasks.testing import run_job
from tests.docs.pages import ROOT, blocks

JOB, SENDING, TABLES = (block.text for block in blocks(ROOT / "README.md", "python"))


@pytest.fixture
def job(database):
    namespace = {}
    exec(compile(JOB, "README.md", "exec", dont_inherit=True), namespace)
    yield namespace["record_order"]
    remove_job("record-order")


def test_the_job_writes_the_order_of_its_tenant(job):
    run_job(job, {"tenantId": "acme", "orderId": "readme", "totalAmount": 59.97})
    with tenant_context("acme"), tenant_session() as session:
        assert session.execute(text("SELECT count(*) FROM orders WHERE order_id = 'readme'")).scalar() == 1


def test_the_tables_of_a_tenant_are_those_that_the_job_writes_to(database):
    namespace = {}
    exec(compile(TABLES, "README.md", "exec", dont_inherit=True), namespace)
    with transaction() as connection:
        connection.execute("CREATE SCHEMA readme; SET LOCAL search_path TO readme")
        namespace["create_tables"](presumed("readme"), connection)
        connection.execute("INSERT INTO orders (order_id, amount) VALUES ('o-1', 59.97)")
        connection.execute("DROP SCHEMA readme CASCADE")


def test_the_send_is_accepted(database, capsys):
    namespace = {}
    exec(compile(SENDING, "README.md", "exec", dont_inherit=True), namespace)
    run_id = namespace["run"].id
    assert capsys.readouterr().out == "pending\n"
    assert store.get(run_id).payload["orderId"] == "o-1"
    cancel_run(run_id)


def test_the_figures_are_those_of_the_benchmarks():
    command = [sys.executable, str(ROOT / "scripts/quote_results.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
