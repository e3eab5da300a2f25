"""Workers go on while an application's transaction is open that has locked a run."""

import os
import signal
import uuid

import pytest
from sqlalchemy.orm import Session

from cgk_tasks import cancel_run, get_run, send_job, signal_run
from cgk_tasks.flow import awaited_events
from cgk_tasks.flow.accept import dispatch
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.runs.event_waits import EventKey
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.sql.sqlalchemy_engine import engine
from tests.integration.trip_events import TripPaid
from tests.integration.workflow_jobs import PaidTrip
from tests.support.jobs import Behave, Slow
from tests.support.open_transactions import done_meanwhile, locked_runs
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(start_worker):
    started = start_worker(["tests.support.jobs", "tests.integration.workflow_jobs"])
    wait_until(lambda: AWAITED.current().current().get("test.tripPaid") == ("tripId",))
    return started


@pytest.fixture
def session(database):
    with Session(engine()) as own:
        yield own


def sql(statement, *values):
    with autocommit() as connection:
        return connection.execute(statement, values)


# The leader


def test_runs_that_are_due_are_dispatched_while_a_dead_ones_row_is_locked(worker, tmp_path):
    stop = tmp_path / "stop"
    dead = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(stop))).id
    started = wait_until(lambda: (text := _text(stop.with_suffix(".started"))) and text.split())
    with locked_runs(dead):
        os.kill(int(started[1]), signal.SIGKILL)
        wait_until(lambda: started[1] not in {str(child.pid) for child in worker.children()})
        for _ in range(3):
            wait_closed(send_job(Behave(tenant_id="globex", action="echo"), delay=0.5).id)
    stop.touch()
    assert wait_closed(dead).deaths == 1


def test_cancelled_runs_are_interrupted_while_one_over_its_hard_limit_is_locked(worker):
    over = send_job(Slow(tenant_id="acme", seconds=60, stubborn=True)).id
    wait_state(over, "running")
    with locked_runs(over):
        wait_until(lambda: "run_over_its_hard_limit" in worker.log)
        slept = send_job(Behave(tenant_id="globex", action="sleep", argument="60")).id
        wait_state(slept, "running")
        cancel_run(slept)
        assert wait_closed(slept).state == "cancelled"
        assert wait_closed(send_job(Behave(tenant_id="globex", action="echo"), delay=0.5).id).state == "completed"
    assert wait_closed(over).error_code == "TIMEOUT"


def _text(path):
    return path.read_text() if path.exists() else ""


# Events and signals


def value(trip_id):
    """As the record knows the trip."""
    return EventKey.of("test.tripPaid", "tripId", trip_id).value


@pytest.fixture
def trip(worker):
    """A workflow that waits for an event, by the id of its trip."""
    trip = uuid.uuid4().hex
    run_id = send_job(PaidTrip(tenant_id="acme", trip_id=trip)).id
    wait_state(run_id, "scheduled")
    sql("UPDATE cgk.runs SET created_at = created_at - interval '1 day' WHERE id = %s", run_id)
    return trip, run_id


def test_an_event_is_sent_while_a_workflow_that_waits_for_it_is_being_signalled(trip, session):
    trip_id, run_id = trip
    signal_run(run_id, "news", {}, session=session)
    paid = done_meanwhile(send_job, TripPaid(tenant_id="acme", trip_id=trip_id, amount=7))
    assert wait_closed(paid.id).state == "completed"
    session.rollback()
    sql("UPDATE cgk.event_mail SET sent_at = sent_at - interval '6 seconds' WHERE value = %s", value(trip_id))
    awaited_events.sweep(dispatch)
    assert wait_closed(run_id).result == [7]


def test_the_leaders_look_for_events_passes_over_a_workflow_that_is_being_signalled(trip, session, monkeypatch):
    trip_id, run_id = trip
    monkeypatch.setattr(awaited_events, "_deliver_to_one", lambda *_args: None)  # its sender has died before
    send_job(TripPaid(tenant_id="acme", trip_id=trip_id, amount=7))
    sql("UPDATE cgk.event_mail SET sent_at = sent_at - interval '1 hour' WHERE value = %s", value(trip_id))
    signal_run(run_id, "news", {}, session=session)
    done_meanwhile(awaited_events.sweep, dispatch, minutes=120)
    assert get_run(run_id).state == "scheduled"
    session.rollback()
    awaited_events.sweep(dispatch, minutes=120)
    assert wait_closed(run_id).result == [7]
