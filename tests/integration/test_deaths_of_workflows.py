"""A process that dies after any statement of a workflow's legs repeats nothing that is on record, and no effect."""

import random

import pytest

from cgk_tasks import send_job, signal_run
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.integration.trip_events import TripPaid
from tests.integration.workflow_jobs import WILD, CarefulTrip, WildTrip, noted
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(start_worker):
    """Who is to die may do so while it executes another run, which then has died too."""
    return start_worker(["tests.integration.workflow_jobs"], concurrency=1, CGK_MAX_DEATHS="9")


def travel(notes, **wishes):
    """The run at its end, the rows that it wrote, and its payments."""
    run_id = send_job(CarefulTrip(tenant_id="acme", notes=notes, **wishes), delay=0.2).id
    signal_run(run_id, "go")
    run = wait_closed(run_id, 40)
    return run, rows_of(run_id), len(noted(f"{notes}.payments"))


def rows_of(run_id):
    with autocommit() as connection:
        rows = fetch(connection, "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s", {"id": run_id})
    return sorted(row["note"] for row in rows)


@pytest.mark.parametrize("statements", range(1, 12))
def test_a_death_after_a_statement(worker, tmp_path, statements):
    run, rows, payments = travel(str(tmp_path / "notes"), dies_after=statements)
    assert (run.state, run.result, rows, payments) == ("completed", 1, ["book", "leave"], 1)
    # The last ones may come when the run has ended.
    assert [error["code"] for error in run.errors] == ["WORKER_DIED"] or statements > 8


def test_a_death_in_an_effect_that_happened(worker, tmp_path):
    run, rows, payments = travel(str(tmp_path / "notes"), dies_in_effect=True)
    assert (run.state, run.result, rows, payments) == ("completed", 1, ["book", "leave"], 1)
    assert [error["code"] for error in run.errors] == ["WORKER_DIED"]


def kinds_of(seed):
    """What a wild trip consists of, as its workflow decides it."""
    chance = random.Random(seed)
    return [chance.choice(WILD) for _ in range(8)]


@pytest.mark.timeout(600)
def test_workflows_of_all_kinds_come_to_their_end_and_do_everything_once(worker, tmp_path):
    """Their signals and events come at any moment: before, while and after they are waited for."""
    wait_until(lambda: AWAITED.current().current().get("test.tripPaid") == ("tripId",))
    runs = {}
    for seed in range(30):
        runs[seed] = send_job(WildTrip(tenant_id="acme", notes=str(tmp_path / f"{seed}"), seed=seed)).id
        for number, kind in enumerate(kinds_of(seed)):
            if kind == "signal":
                signal_run(runs[seed], "go", key=str(number))
            elif kind == "event":
                send_job(TripPaid(tenant_id="acme", trip_id=runs[seed]))
    for seed, run_id in runs.items():
        run, kinds = wait_closed(run_id, 240), kinds_of(seed)
        expected = [str(number) for number, kind in enumerate(kinds) if kind in {"write", "invoke"}]
        paid = noted(f"{tmp_path / f'{seed}'}.payments")
        assert (run.state, rows_of(run_id), len(paid), len(set(paid))) == (
            "completed", expected, kinds.count("pay"), kinds.count("pay")
        ), (seed, kinds, run.errors)  # fmt: skip
