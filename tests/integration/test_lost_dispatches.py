"""What counts as a dispatch, and how soon a run is dispatched again however often its message was lost."""

import time
import uuid

import pytest
import redis

from cgk_tasks import embedded, reset_job_client, send_job
from cgk_tasks.broker.envelope import redis_key
from cgk_tasks.config import get_settings, use_settings
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.worker.dispatcher import Dispatcher
from tests.support.jobs import Behave
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # they start workers, or kill them

PATIENCE = 0.3


@pytest.fixture(scope="module")
def broker():
    """A Redis of this module's own, without workers."""
    with embedded.temporary(postgres=False) as services:
        yield services.redis


@pytest.fixture
def running(broker):
    if not broker.running:
        broker.start()
    lose_everything(broker)
    return broker


@pytest.fixture(scope="module", autouse=True)
def settings(database, broker):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_BROKER_URL", broker.url)
        patch.setenv("CGK_DISPATCH_PATIENCE_SECONDS", str(PATIENCE))
        use_settings(None)
        reset_job_client()
        yield
    use_settings(None)
    reset_job_client()


@pytest.fixture
def dispatcher():
    return Dispatcher(str(uuid.uuid4()))


def send():
    return send_job(Behave(tenant_id="acme", action="echo", argument="lost")).id


def dispatches(run_id):
    """How often it was dispatched, and whether it is marked as dispatched now."""
    with autocommit() as connection:
        row = fetch(connection, "SELECT hand_overs, handed_over_at FROM cgk.runs WHERE id = %(id)s", {"id": run_id})[0]
    return row["hand_overs"], row["handed_over_at"] is not None


def messages(broker):
    with redis.Redis.from_url(broker.url) as client:
        return client.llen(redis_key(get_settings().default_queue, DEFAULT_PRIORITY, get_settings().key_prefix))


def lose_everything(broker):
    with redis.Redis.from_url(broker.url) as client:
        client.flushall()


def tick_until(dispatcher, condition, timeout=20.0):
    def tick_and_look():
        dispatcher.tick()
        return condition()

    wait_until(tick_and_look, timeout)


def test_failed_publishes_are_not_counted_as_dispatches(running, dispatcher):
    running.kill()
    run_id = send()
    until = time.monotonic() + 2.5
    tick_until(dispatcher, lambda: time.monotonic() > until)
    while_down = dispatches(run_id)
    running.start()
    tick_until(dispatcher, lambda: dispatches(run_id)[1])
    assert while_down == (0, False)
    assert dispatches(run_id) == (1, True)


def test_a_due_run_whose_publish_fails_is_not_counted_either(running, dispatcher):
    run_id = send_job(Behave(tenant_id="acme", action="echo", argument="due"), delay=0.1).id
    running.kill()
    until = time.monotonic() + 2.5
    tick_until(dispatcher, lambda: time.monotonic() > until)
    while_down = dispatches(run_id)
    running.start()
    tick_until(dispatcher, lambda: dispatches(run_id)[1])
    assert while_down[0] == 0
    assert dispatches(run_id) == (1, True)


def test_the_eighth_loss_in_a_row_is_mended_as_soon_as_the_second(running, dispatcher):
    send()
    for _ in range(8):
        lose_everything(running)
        # Once a second it looks for lost messages; then twice the patience.
        tick_until(dispatcher, lambda: messages(running), 2 * PATIENCE + 3)
