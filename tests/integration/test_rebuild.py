"""`cgk-tasks broker rebuild`: a broker that is empty has a message of every waiting run again."""

import os

import pytest
import redis

from cgk_tasks import cancel_job, send_job
from cgk_tasks.broker.envelope import redis_key, waiting_of
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.errors import BrokerError
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.flow.rebuild import rebuild_broker, waiting_by_queue
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.rabbitmq import free_ports

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def broker(services):
    with redis.Redis.from_url(services.broker_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def queue():
    return f"moved-{os.urandom(4).hex()}"


@pytest.fixture
def send(queue):
    sent = []

    def one(**options) -> str:
        order = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}
        sent.append(send_job("order.created", order, queue=queue, **options).id)
        return sent[-1]

    yield one
    resume_queue(queue)
    for run_id in sent:
        cancel_job(run_id)


def messages(broker, queue: str, priority: int = 5) -> list[str]:
    """The runs that are named by the messages of a list."""
    return [run_id for text in broker.lrange(redis_key(queue, priority), 0, -1) for run_id in waiting_of(text).run_ids]


def test_every_waiting_run_has_a_message_again_in_the_list_of_its_priority(broker, queue, send):
    usual, urgent = [send() for _ in range(5)], send(priority=9)
    broker.flushdb()
    assert rebuild_broker() == {queue: 6}
    assert sorted(messages(broker, queue)) == sorted(usual)
    assert messages(broker, queue, 9) == [urgent]


def test_a_run_that_no_broker_has_taken_yet_is_among_them(broker, queue, send):
    run_id = send()
    broker.flushdb()
    store.forget_dispatch([run_id])
    assert rebuild_broker() == {queue: 1}
    assert messages(broker, queue) == [run_id]


def test_runs_that_are_not_due_or_held_get_none(broker, queue, send):
    send(delay=3600)
    pause_queue(queue)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'held' WHERE id = %s", [send()])
    broker.flushdb()
    assert rebuild_broker() == {}
    assert messages(broker, queue) == []


def test_all_batches_are_dispatched_and_told_of(broker, queue, send, setting):
    runs = [send() for _ in range(7)]
    broker.flushdb()
    setting(CGK_DISPATCH_BATCH="3")
    told = []
    assert rebuild_broker(told.append) == {queue: 7}
    assert sorted(messages(broker, queue)) == sorted(runs)
    assert told[:3] == [3, 6, 7]


def test_the_audit_says_who_did_it_and_how_many_runs_there_were(broker, queue, send):
    send()
    rebuild_broker()
    with autocommit() as connection:
        line = fetch(connection, "SELECT action, affected FROM cgk.audit ORDER BY at DESC LIMIT 1")[0]
    assert (line["action"], line["affected"]) == ("rebuild broker", 1)


def test_a_broker_that_is_away_is_an_error_and_changes_nothing(broker, queue, send, setting):
    send()
    broker.flushdb()
    setting(CGK_BROKER_URL=f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    close_publishers()
    with pytest.raises(BrokerError, match="Redis does not answer"):
        rebuild_broker()
    assert waiting_by_queue() == {queue: 1}
