"""Workflows with a real worker: steps are done once, waits hold no worker, and a death costs the step that was on."""

import pytest

from cgk_tasks import cancel_run, get_run, send_job
from cgk_tasks.errors import StaleAttemptError
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs.steps import Memo
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.worker.steps import RunSteps
from tests.integration.workflow_jobs import CrowdedTrip, DeadlyTrip, LongTrip, ShakyTrip, SharedTrip, Trip, noted
from tests.support.claims import claim_here
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.workflow_jobs"])


@pytest.fixture
def notes(tmp_path):
    return str(tmp_path / "notes")


def send(event, notes, **options):
    return send_job(event(tenant_id="acme", notes=notes), **options).id


def steps_of(run_id):
    statement = "SELECT name, nth, kind, state, attempts FROM cgk.steps WHERE run_id = %(id)s ORDER BY place"
    with autocommit() as connection:
        return fetch(connection, statement, {"id": run_id})


def orders_of(run_id):
    with autocommit() as connection:
        rows = fetch(connection, "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s", {"id": run_id})
        return sorted(row["note"] for row in rows)


def test_a_workflow_goes_through_its_legs_and_does_each_step_once(worker, notes):
    run = wait_closed(send(Trip, notes))
    assert (run.state, run.result, run.attempt) == ("completed", ["pack", "leave 0", "leave 1"], 3)
    assert noted(notes) == ["pack", "leave 0", "leave 1"]
    assert [(one["name"], one["nth"]) for one in steps_of(run.id)] == [
        ("$begin", 1), ("$now", 1), ("pack", 1), ("night", 1), ("leave", 1), ("leave", 2), ("arrival", 1)
    ]  # fmt: skip


def test_a_workflow_that_waits_is_scheduled_and_holds_no_worker(worker, notes):
    run_id = send(LongTrip, notes)
    run = wait_until(lambda: found if (found := get_run(run_id)).state == "scheduled" else None)
    assert (run.worker_id, noted(notes), (run.run_at - run.created_at).total_seconds() > 3500) == (None, ["pack"], True)


def test_why_says_what_a_workflow_waits_for(worker, notes):
    run_id = send(LongTrip, notes)
    wait_until(lambda: get_run(run_id).state == "scheduled")
    (gate,) = why(run_id).gates
    assert (gate.code, gate.text.startswith("Its workflow waits for sleep voyage, until")) == ("workflow_waits", True)


def test_a_workflow_is_cancelled_while_it_waits(worker, notes):
    run_id = send(LongTrip, notes)
    wait_until(lambda: get_run(run_id).state == "scheduled")
    assert cancel_run(run_id).state == "cancelled"


def test_a_death_costs_the_step_that_was_on_and_what_it_wrote_is_there_once(worker, notes):
    run = wait_closed(send(DeadlyTrip, notes))
    assert (run.state, run.deaths, run.result) == ("completed", 1, 4)
    assert noted(notes) == ["before", "deadly", "deadly", "after"]
    assert orders_of(run.id) == ["after", "before", "deadly"]


def test_a_step_that_fails_is_tried_again_and_those_before_it_are_not(worker, notes):
    run = wait_closed(send(ShakyTrip, notes))
    assert (run.state, run.result, noted(notes)) == ("completed", 4, ["steady", "shaky", "shaky", "shaky"])
    assert [(error["code"], error["attempt"]) for error in run.errors] == [("FERRY_LATE", 1), ("FERRY_LATE", 2)]
    assert [(one["name"], one["state"], one["attempts"]) for one in steps_of(run.id)][1:] == [
        ("steady", "done", 0), ("shaky", "done", 2)
    ]  # fmt: skip


def test_a_coroutine_does_what_it_can_before_it_waits(worker, notes):
    run = wait_closed(send(SharedTrip, notes))
    assert (run.state, run.attempt, sorted(noted(notes)[:2]), noted(notes)[2:]) == (
        "completed", 2, ["ada", "bob"], ["arrive"]
    )  # fmt: skip


def test_steps_in_threads_have_sessions_of_their_own(worker):
    run = wait_closed(send_job(CrowdedTrip(tenant_id="acme")).id)
    assert (run.result, orders_of(run.id)) == (["ada", "bob", "eve"], ["ada", "bob", "eve"])


# The fence


@pytest.fixture
def claimed(database, notes):
    """A run that this process holds."""
    run_id = send(LongTrip, notes, queue="nobody-listens")
    return claim_here(run_id)


def done(name, result="1"):
    return Memo(name, 1, 1, "step", "done", result=result)


def test_a_step_is_kept_by_the_attempt_that_owns_the_run(claimed):
    RunSteps(claimed).keep(done("a"))
    assert [(memo.name, memo.result) for memo in RunSteps(claimed).load()] == [("a", "1")]


@pytest.mark.parametrize("change", [{"attempt": 7}, {"id": "01995a5e-0000-7000-8000-000000000000"}])
def test_an_attempt_that_lost_its_run_keeps_nothing(claimed, change):
    with pytest.raises(StaleAttemptError, match="step 'a' is not on record"):
        RunSteps(claimed._replace(**change)).keep(done("a"))
    assert list(RunSteps(claimed).load()) == []


def test_a_step_that_is_over_stays_as_it_is(claimed):
    RunSteps(claimed).keep(done("a", "1"))
    assert RunSteps(claimed).keep(done("a", "2")).result == "1"
