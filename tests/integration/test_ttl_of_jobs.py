"""`define_job(ttl=)`: how long a run that is due may wait for its start."""

from datetime import timedelta

import pytest

from cgk_tasks import define_job, get_run, send_job, tasks
from cgk_tasks.admission.declared import SendRules, send_rules_of, text_of_send_rules
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs import store
from cgk_tasks.runs.job_events import Route, note_job_events, note_rules
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from tests.support.jobs import TwoJobs
from tests.support.waiting import wait_closed

CANCELLED = {"tenantId": "acme", "orderId": "o-1"}
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


@pytest.fixture(autouse=True)
def unlearned(worker):
    """The sender knows nothing yet of what workers say."""
    current_runtime().drop(ROUTES)
    yield
    current_runtime().drop(ROUTES)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.job_events")


@pytest.fixture
def define():
    made = []

    def make(name="one", **options):
        made.append(name)
        define_job(name, event="order.cancelled", **options)(lambda ctx: None)

    yield make
    for name in made:
        remove_job(name)


def time_to_live(run_id):
    run = get_run(run_id)
    return None if run.expires_at is None else run.expires_at - run.run_at


def sent(**options):
    return send_job("order.cancelled", CANCELLED, **options).id


def near(found, expected):
    return abs(found - expected) < timedelta(seconds=1)


def test_a_run_may_wait_so_long(define):
    define(ttl=HOUR)
    assert near(time_to_live(sent()), HOUR)


def test_the_time_counts_from_when_the_run_is_due(define):
    define(ttl=3600)
    assert time_to_live(sent(delay=86_400)) == HOUR


def test_what_the_send_says_wins(define):
    define(ttl=3600)
    assert near(time_to_live(sent(expires=60)), timedelta(seconds=60))


def test_a_send_of_celerys_api_has_it_too(define):
    define(ttl=3600)
    result = tasks.order_cancelled.apply_async(kwargs=CANCELLED)
    assert near(time_to_live(result.id), HOUR)


def test_a_job_that_says_nothing_lets_its_runs_wait_for_ever(define):
    define()
    assert time_to_live(sent()) is None


def test_a_run_that_has_not_started_in_time_ends_as_expired(define):
    define(ttl=0.2, queue="nobody-listens-here")
    run = wait_closed(sent())
    assert (run.state, run.error_code, run.attempt) == ("expired", "EXPIRED", 0)


def test_of_jobs_that_disagree_each_childs_is_its_own():
    parent = wait_closed(send_job(TwoJobs(tenant_id="acme")).id)
    children = {run.job: time_to_live(run.id) for run in store.listing(parent_id=parent.id)}
    assert (parent.expires_at, children["test-second"]) == (None, None)
    assert near(children["test-first"], HOUR)


def test_a_sender_without_the_job_learns_it_from_the_record():
    routes = {"order.cancelled": Route(send_rules=text_of_send_rules(SendRules("one", 3600.0)))}
    with autocommit() as connection:
        note_job_events(connection, routes)
        note_rules(connection, routes)
    assert near(time_to_live(sent()), HOUR)


def test_rules_are_read_as_they_were_declared():
    rules = SendRules("one", 0.5)
    assert send_rules_of(text_of_send_rules(rules)) == rules
