"""`define_job(queue=, priority=)`: where a run goes whose sender names neither."""

import pytest

from cgk_tasks import define_job, get_run, send_job
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs.job_events import Route, note_job_events
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.waiting import wait_closed, wait_until

ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}
CANCELLED = {"tenantId": "acme", "orderId": "o-1"}


@pytest.fixture(autouse=True)
def unlearned(database):
    """The sender knows nothing yet of what workers say."""
    current_runtime().drop(ROUTES)
    yield
    current_runtime().drop(ROUTES)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.job_events")


@pytest.fixture
def define():
    made = []

    def make(name, **options):
        made.append(name)
        define_job(name, event="order.cancelled", **options)(lambda ctx: None)

    yield make
    for name in made:
        remove_job(name)


def route(**options):
    run = get_run(send_job("order.cancelled", CANCELLED, **options).id)
    return run.queue, run.priority


def test_a_run_goes_to_its_jobs_queue_with_its_priority(define):
    define("one", queue="cancellations", priority=7)
    assert route() == ("cancellations", 7)


def test_what_the_send_says_wins(define):
    define("one", queue="cancellations", priority=7)
    assert route(queue=get_settings().default_queue) == (get_settings().default_queue, 7)
    assert route(priority=1) == ("cancellations", 1)


def test_a_job_that_says_nothing_leaves_the_default(define):
    define("one")
    assert route() == (get_settings().default_queue, DEFAULT_PRIORITY)


def test_jobs_that_disagree_leave_the_default_for_their_parent(define):
    define("one", queue="cancellations", priority=7)
    define("other", queue="elsewhere", priority=7)
    assert route() == (get_settings().default_queue, 7)


def test_a_sender_learns_from_the_record_what_workers_say(database):
    with autocommit() as connection:
        note_job_events(connection, {"order.cancelled": Route("cancellations", 7)})
    assert route() == ("cancellations", 7)


def test_a_worker_that_changes_its_mind_is_noted_at_once(database):
    with autocommit() as connection:
        note_job_events(connection, {"order.cancelled": Route("cancellations", 7)})
        note_job_events(connection, {"order.cancelled": Route(None, 3)})
    assert route() == (get_settings().default_queue, 3)


@pytest.mark.parametrize(
    "options", [{"queue": ""}, {"queue": "a\nb"}, {"queue": 5}, {"priority": 10}, {"priority": True}]
)
def test_what_is_no_queue_or_priority_is_refused_where_the_job_is_defined(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        define_job("wrong", event="order.cancelled", **options)


@pytest.mark.slow
def test_senders_without_the_module_follow_real_workers_and_children_go_to_their_own_jobs_queue(start_worker):
    default = get_settings().default_queue
    modules = ["tests.support.routed_jobs"]
    start_worker(modules, CGK_DEFAULT_QUEUE=default, TEST_ROUTED_QUEUE="routed-q", concurrency=1)
    start_worker(modules, CGK_DEFAULT_QUEUE="routed-q", TEST_ROUTED_QUEUE="routed-q", concurrency=1)
    with autocommit() as connection:
        wait_until(lambda: fetch(connection, "SELECT event FROM cgk.job_events WHERE queue IS NOT NULL"), 20)
    run = wait_closed(send_job("order.cancelled", CANCELLED).id)
    assert (run.queue, run.priority, run.result) == ("routed-q", 8, "routed-cancelled")
    parent = wait_closed(send_job("order.created", ORDER).id)
    with autocommit() as connection:
        children = fetch(
            connection, "SELECT job, queue, priority FROM cgk.run_history WHERE parent_id = %(id)s ORDER BY job",
            {"id": parent.id},
        )  # fmt: skip
    assert parent.queue == default
    assert [tuple(child.values()) for child in children] == [
        ("routed-first", "routed-q", DEFAULT_PRIORITY), ("routed-second", default, 2),
    ]  # fmt: skip
