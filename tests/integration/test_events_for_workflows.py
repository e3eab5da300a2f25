"""Events for workflows, with a real worker: none is lost, be it sent before, while or after the wait begins."""

import threading
import uuid

import pytest

from cgk_tasks import get_run, send_job, send_jobs, signal_run
from cgk_tasks.flow import awaited_events
from cgk_tasks.flow.accept import dispatch
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.runs import event_waits
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import tenant_context, tenant_session
from tests.integration.trip_events import TripPaid
from tests.integration.workflow_jobs import GuidedTrip, PaidTrip, RestlessTrip
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module")
def worker(start_worker):
    started = start_worker(["tests.integration.workflow_jobs"])
    wait_until(lambda: AWAITED.current().current().get("test.tripPaid") == ("tripId",))
    return started


@pytest.fixture
def trip():
    return uuid.uuid4().hex


def travel(trip, **fields):
    return send_job(PaidTrip(tenant_id="acme", trip_id=trip, **fields)).id


def pay(trip, amount=1, **options):
    tenant = options.pop("tenant", "acme")
    return send_job(TripPaid(tenant_id=tenant, trip_id=trip, amount=amount), **options)


def waits(run_id):
    return wait_until(lambda: get_run(run_id).state == "scheduled")


def test_an_event_wakes_the_workflow_that_waits_for_it(worker, trip):
    run_id = travel(trip)
    waits(run_id)
    paid = pay(trip, 7)
    assert wait_closed(run_id).result == [7]
    assert wait_closed(paid.id).state == "completed"  # though no job is there for it


def test_events_that_were_sent_since_the_run_was_made_count(worker, trip):
    run_id = send_job(PaidTrip(tenant_id="acme", trip_id=trip, times=2), delay=0.5).id
    pay(trip, 1)
    pay(trip, 2)
    run = wait_closed(run_id)
    assert (run.result, run.attempt) == ([1, 2], 1)


def test_an_event_does_not_wait_for_a_step_that_is_tried_again_later(worker, trip):
    run_id = send_job(RestlessTrip(tenant_id="acme", trip_id=trip)).id
    wait_until(lambda: get_run(run_id).state == "retrying")
    pay(trip)
    assert wait_closed(run_id).result == "event"


def test_events_of_others_do_not_count(worker, trip):
    pay(trip, 1)  # before the run was made
    run_id = travel(trip)
    waits(run_id)
    pay("another trip", 2)
    pay(trip, 3, tenant="globex")
    pay(trip, 4, delay=3600)
    pay(trip, 5)
    assert wait_closed(run_id).result == [5]


def test_a_workflow_beside_other_jobs_of_its_event_gets_what_is_sent_to_their_run(worker, trip):
    run_id = send_job(GuidedTrip(tenant_id="acme", trip_id=trip), delay=0.5).id
    signal_run(run_id, "answer", {"by": "ada"})
    pay(trip, 7)
    wait_until(lambda: get_run(run_id).state == "running")
    signal_run(run_id, "answer", {"by": "bob"})
    assert wait_closed(run_id).result == {"guided-trip": 9, "guide": None}


def test_a_wait_for_an_event_ends_when_its_time_is_over(worker, trip):
    assert wait_closed(travel(trip, seconds=0.2)).result == [0]


def test_an_event_counts_when_the_transaction_commits_that_sends_it(worker, trip):
    run_id = travel(trip)
    waits(run_id)
    with tenant_context("acme"), tenant_session() as session:
        pay(trip, 1, session=session)
        session.rollback()
    with tenant_context("acme"), tenant_session() as session:
        pay(trip, 2, session=session)
    assert wait_closed(run_id).result == [2]


@pytest.mark.slow
def test_events_that_are_sent_together_wake_each_its_own(worker):
    trips = [uuid.uuid4().hex for _ in range(5)]
    runs = [travel(trip) for trip in trips]
    for run_id in runs:
        waits(run_id)
    send_jobs([TripPaid(tenant_id="acme", trip_id=trip, amount=number) for number, trip in enumerate(trips)])
    assert [wait_closed(run_id).result for run_id in runs] == [[number] for number in range(5)]


@pytest.mark.slow
def test_events_at_the_moment_of_the_wait_are_all_taken(worker):
    trips = [uuid.uuid4().hex for _ in range(10)]
    runs = [travel(trip, times=2) for trip in trips]
    senders = [threading.Thread(target=lambda trip=trip: [pay(trip, number) for number in (1, 2)]) for trip in trips]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [sorted(wait_closed(run_id).result) for run_id in runs] == [[1, 2]] * 10


@pytest.mark.slow
def test_the_job_that_an_event_has_in_another_worker_gets_it_too(worker, start_worker):
    """The worker of the workflows has none for it, and must not take it away."""
    start_worker(["tests.integration.receipt_jobs"])
    paid = [pay(uuid.uuid4().hex, number).id for number in range(6)]
    assert [(wait_closed(run_id).job, wait_closed(run_id).result) for run_id in paid] == [
        ("receipt", number) for number in range(6)
    ]


def test_what_a_sender_kept_and_did_not_bring_is_found(worker, trip, monkeypatch):
    run_id = travel(trip)
    waits(run_id)
    monkeypatch.setattr(awaited_events, "deliver", lambda runs, send: None)  # its process ends here
    pay(trip, 7)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.event_mail SET sent_at = sent_at - interval '6 seconds' WHERE value = %s",
                           [event_waits.EventKey.of("test.tripPaid", "tripId", trip).value])  # fmt: skip
        connection.execute("UPDATE cgk.runs SET created_at = created_at - interval '1 minute' WHERE id = %s", [run_id])
    awaited_events.sweep(dispatch)
    assert wait_closed(run_id).result == [7]


def test_a_wait_whose_process_ended_before_it_looked_is_found(worker, trip, monkeypatch):
    """The run waits, the event was there before, and nobody has brought them together."""
    run_id = travel(trip)
    waits(run_id)
    with autocommit() as connection:
        connection.execute(
            "UPDATE cgk.event_waits SET since = since - interval '6 seconds' WHERE run_id = %s", [run_id]
        )
        connection.execute("UPDATE cgk.runs SET created_at = created_at - interval '1 day' WHERE id = %s", [run_id])
    monkeypatch.setattr(awaited_events, "deliver", lambda runs, send: None)
    paid = pay(trip, 7)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.event_mail SET sent_at = sent_at - interval '1 hour' WHERE id = %s", [paid.id])
    awaited_events.sweep(dispatch)
    assert wait_closed(run_id).result == [7]
