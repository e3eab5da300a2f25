"""The tests on the pages about tests pass, in an application of their own."""

import os
import subprocess
import sys

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/how-to/test-your-jobs.md"
PROOFS = ROOT / "docs/how-to/prove-that-a-job-does-everything-once.md"
TUTORIAL = ROOT / "docs/tutorials/workflows.md"

# What the page takes for granted: the job that writes, from the tutorial, and its table.
RECORD_ORDER = """
from sqlalchemy import text


def create_tables(tenant, connection):
    connection.execute("CREATE TABLE orders (order_id text)")


@define_job("record-order", event="order.fulfilled")
def record_order(ctx):
    ctx.db.execute(text("INSERT INTO orders VALUES (:id)"), {"id": ctx.payload.order_id})


@define_job("cancel-order", event="order.delivered")
def cancel_order(ctx):
    send_job("order.cancelled", {"tenantId": ctx.tenant_id, "orderId": ctx.payload.order_id}, session=ctx.db)
"""


def test_the_examples_of_the_page_pass(tmp_path):
    conftest, job, *tests = [block.text for block in blocks(PAGE, "python")]
    workflow = next(block.text for block in blocks(TUTORIAL, "python") if block.saved_as == "onboarding.py")
    (tmp_path / "onboarding.py").write_text(workflow)
    run_tests(tmp_path, conftest, job + RECORD_ORDER, tests)


def test_the_examples_of_proofs_pass(tmp_path):
    conftest = next(blocks(PAGE, "python")).text
    job, *tests = [block.text for block in blocks(PROOFS, "python")]
    run_tests(tmp_path, conftest, job, tests)


def run_tests(tmp_path, conftest, jobs, tests):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/jobs.py").write_text(jobs)
    (tmp_path / "conftest.py").write_text(conftest)
    for number, text in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CGK_", "JOB", "PYTEST"))}
    env |= {"PYTHONPATH": str(tmp_path), "CGK_TENANT_SETUP": "shop.jobs:create_tables"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{len(tests)} passed" in done.stdout, done.stdout
