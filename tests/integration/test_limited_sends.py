"""Runs of limited jobs go into their lanes when they are sent, and start at once if they may. No worker lives here."""

import os

import pytest
import redis

from cgk_tasks import SendItem, get_job_status, send_job, send_jobs
from cgk_tasks.admission.declared import limits_of, text_of_limits
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.rules import AtOnce, Throttle
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.envelope import redis_key
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs.job_events import Route, note_job_events, note_limits
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import tenant_context, tenant_session
from cgk_tasks.worker.dispatcher import Dispatcher
from tests.support.lanes import finish
from tests.support.limits_jobs import Single, Work


class Elsewhere(TenantEvent, event="limited_sends.elsewhere"):
    """Of which no process of the tests has a job."""


@pytest.fixture(autouse=True)
def messages(database, services):
    """How many messages are in the queue, which is empty at first."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    for part in (CROWDED, LANES, ROUTES, SWITCH):
        current_runtime().drop(part)
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
        yield lambda: broker.llen(redis_key(os.environ["CGK_DEFAULT_QUEUE"], 5))


def send(event=Single, tenant="acme", **fields):
    return send_job(event(tenant_id=tenant, path="", **fields)).id


def states(runs):
    return [get_job_status(run).state for run in runs]


def slots():
    with autocommit() as connection:
        return connection.execute("SELECT count(DISTINCT slot) FROM cgk.runs WHERE state = 'pending'").fetchone()[0]


def test_a_run_that_comes_alone_is_published_by_its_sender(messages):
    assert (states([send()]), messages()) == (["pending"], 1)


def test_a_run_for_which_there_is_no_place_waits_without_a_message(messages):
    runs = [send() for _ in range(3)]
    assert (states(runs), messages()) == (["pending", "held", "held"], 1)


def test_each_value_of_a_key_has_its_own_place(messages):
    runs = [send(Work, shop_id=shop) for shop in ("one", "two", "one")]
    assert (states(runs), messages()) == (["pending", "pending", "held"], 2)


def test_many_that_are_sent_together_wait_together():
    runs = [handle.id for handle in send_jobs(SendItem(Single(tenant_id="acme", path="")) for _ in range(50))]
    assert ("held" in states(runs), slots()) == (True, 1)


def test_those_sent_in_a_transaction_wait_once_it_has_committed(messages):
    with tenant_context("acme"), tenant_session() as session:
        runs = [send_job(Single(tenant_id="acme", path=""), session=session).id for _ in range(3)]
        assert messages() == 0
    assert (states(runs), messages(), slots()) == (["pending"] * 3, 1, 1)  # short ones travel together


def test_a_run_that_is_due_again_waits_for_a_place(messages):
    first, second = send(), send()
    finish([first])
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'retrying', run_at = now() WHERE id = %s", [second])
    third = send()
    Dispatcher(new_run_id()).tick()
    passes = Passes({"limits.single": 5.0}.get)
    passes.make()
    assert sorted(states([second, third])) == ["held", "pending"]


@pytest.fixture
def declared_elsewhere():
    """Workers say that the one job of an event has a limit; this process has no job for it."""
    with autocommit() as connection:
        routes = {Elsewhere.event_name: Route(limits=text_of_limits("elsewhere", [AtOnce(1)]))}
        note_job_events(connection, routes)
        note_limits(connection, routes)
    current_runtime().drop(ROUTES)
    yield
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.job_events")
    current_runtime().drop(ROUTES)


def test_a_sender_without_the_job_knows_its_limits(declared_elsewhere, messages):
    runs = [send_job(Elsewhere(tenant_id="acme")).id for _ in range(2)]
    assert (states(runs), messages()) == (["pending", "held"], 1)


def test_limits_are_read_as_they_were_declared():
    limits = (AtOnce(5, lend_to=20), AtOnce(50, per="all"), Throttle(100, every=60.0, burst=10, key="shopId"))
    assert limits_of(text_of_limits("job", limits)) == ("job", limits)
