"""`cgk-tasks broker`."""

import os

import pytest
import redis

from cgk_tasks import cancel_job, send_job
from cgk_tasks.broker.envelope import redis_key, waiting_of
from cgk_tasks.runs.models import DEFAULT_PRIORITY

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def broker(services):
    with redis.Redis.from_url(services.broker_url) as client:
        yield client


@pytest.fixture
def queue(broker):
    """A queue with two runs whose messages are lost."""
    name = f"lost-{os.urandom(4).hex()}"
    order = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}
    runs = [send_job("order.created", order, queue=name) for _ in range(2)]
    broker.flushdb()
    yield name
    for run in runs:
        cancel_job(run.id)


def messages(broker, queue: str) -> list[str]:
    """The runs that are named by the messages of the queue."""
    texts = broker.lrange(redis_key(queue, DEFAULT_PRIORITY), 0, -1)
    return [run_id for text in texts for run_id in waiting_of(text).run_ids]


def test_a_dry_run_counts_and_sends_nothing(cgk, broker, queue):
    assert cgk("broker", "rebuild", "--dry-run", "--json").json == [{"queue": queue, "runs": 2}]
    assert messages(broker, queue) == []


def test_a_rebuild_fills_the_broker_and_says_what_it_did(cgk, broker, queue):
    done = cgk("broker", "rebuild")
    assert done.code == 0
    assert queue in done.out
    assert len(messages(broker, queue)) == 2


def test_with_nothing_to_do_it_says_so(cgk):
    done = cgk("broker", "rebuild")
    assert (done.code, done.out, done.err) == (0, "", "No run waits for a worker.\n")
