"""A process that dies after any statement makes no child run twice, and loses no end of one."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.integration.child_jobs import DyingFair
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(start_worker):
    """Who is to die may do so while it executes another run, which then has died too."""
    return start_worker(["tests.integration.child_jobs"], concurrency=1, CGK_MAX_DEATHS="9")


def children_of(run_id):
    return store.listing(parent_id=run_id, limit=100)


def rows_of(run_id):
    with autocommit() as connection:
        rows = fetch(connection, "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s", {"id": run_id})
    return sorted(row["note"] for row in rows)


@pytest.mark.parametrize("statements", range(1, 10))
def test_a_parent_whose_process_dies_after_a_statement_makes_no_child_twice(worker, tmp_path, statements):
    run_id = send_job(DyingFair(tenant_id="acme", notes=str(tmp_path / "notes"), dies_after=statements)).id
    run = wait_closed(run_id, 60)
    assert (run.result, rows_of(run_id), len(children_of(run_id))) == (
        [90, 0, 10, 20], ["0", "1", "2", "9", "close"], 4
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_parents_whose_processes_die_at_any_time_come_to_their_end(worker, tmp_path):
    runs = [
        send_job(DyingFair(tenant_id="acme", notes=str(tmp_path / str(number)), dies_after=0, number=number % 5)).id
        for number in range(30)
    ]
    for number, run_id in enumerate(runs):
        run = wait_closed(run_id, 240)
        expected = sorted([*map(str, range(number % 5)), "9", "close"])
        assert (run.state, rows_of(run_id), len(children_of(run_id))) == ("completed", expected, number % 5 + 1)
