"""When runs that are due later are dispatched: at their time, and not at the next look for something to do."""

import uuid

import pytest

from cgk_tasks import get_run, send_job
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.worker.dispatcher import Dispatcher
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("nothing_open")


class Due(TenantEvent, event="test.due"):
    """Of which nobody has a job."""


@pytest.fixture
def nothing_open(database):
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs")


@pytest.fixture
def dispatcher():
    return Dispatcher(str(uuid.uuid4()))


def send(**options):
    return send_job(Due(tenant_id="acme"), queue="nobody-listens", **options).id


def test_the_next_of_several_runs_is_known(dispatcher):
    for seconds in (60, 30, 90):
        send(delay=seconds)
    assert (dispatcher.dispatch_due(), 25 < dispatcher.seconds_to_due <= 30) == (0, True)


@pytest.mark.parametrize("sent", [False, True])
def test_where_no_run_is_to_come_there_is_none(dispatcher, sent):
    if sent:
        send()
    dispatcher.dispatch_due()
    assert dispatcher.seconds_to_due is None


def test_a_run_is_dispatched_when_it_is_due_and_the_next_one_is_known(dispatcher):
    first, _second = send(delay=0.2), send(delay=60)
    if not dispatcher.dispatch_due():  # else this machine is slow, and the first one is due already
        wait_until(lambda: dispatcher.seconds_to_due <= 0)
        wait_until(dispatcher.dispatch_due)
    assert (get_run(first).state, 50 < dispatcher.seconds_to_due <= 60) == ("pending", True)


def test_a_run_that_waits_for_others_without_an_end_is_none_that_comes(dispatcher):
    send(delay=60)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET run_at = 'infinity'")
    dispatcher.dispatch_due()
    assert dispatcher.seconds_to_due == float("inf")


def test_of_runs_that_cannot_be_dispatched_now_the_next_turn_takes_care(dispatcher):
    send(delay=60)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET run_at = now() - interval '1 s'")
    with transaction() as connection:
        connection.execute("SELECT FROM cgk.runs FOR UPDATE")
        assert (dispatcher.dispatch_due(), dispatcher.seconds_to_due) == (0, None)


def test_what_became_due_while_others_were_dispatched_does_not_wait_for_the_next_turn(dispatcher):
    runs = [send(delay=60), send(delay=60)]
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET run_at = now() - interval '1 s'")
    with transaction() as connection:  # as if this one were due only after the statement that dispatches
        connection.execute("SELECT FROM cgk.runs WHERE id = %s FOR UPDATE", [runs[1]])
        assert dispatcher.dispatch_due() == 1
    assert dispatcher.seconds_to_due <= 0
    assert (dispatcher.dispatch_due(), get_run(runs[1]).state) == (1, "pending")
