"""The broker takes a message, and its answer never comes: the sender cannot know whether it is there."""

import contextlib

import pytest

from cgk_tasks import SendItem, create_job_client
from cgk_tasks.broker.envelope import NOTHING_WAITS
from cgk_tasks.broker.publisher import connect
from cgk_tasks.config import Settings, get_settings
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from tests.faults.journal import once, wait_completed
from tests.faults.proxy import tcp_proxy
from tests.support.waiting import wait_until


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker_name(request):
    return request.param


@pytest.fixture
def far_broker(broker_node):
    with tcp_proxy(broker_node.config()["url"]) as proxy:
        yield proxy


@pytest.fixture
def sender(worker, far_broker, services, queue, journal):
    """It reaches the broker through the proxy, and has done so before."""
    settings = Settings(
        database_url=services.database_url, broker_url=far_broker.url, default_queue=queue, jobs_provider="celery"
    )
    client = create_job_client("celery", settings=settings)
    wait_completed([client.send(journal.work(writes=False)).id])
    yield client
    client.close()


@pytest.fixture
def send_many(sender, journal):
    def send(count):
        items = [SendItem(journal.work(number, writes=False)) for number in range(count)]
        return [handle.id for handle in sender.send_batch(items)]

    return send


def test_a_run_whose_message_arrived_runs_once(send_many, far_broker, journal):
    far_broker.lose_answers()
    runs = send_many(1)
    wait_completed(runs)
    assert journal.starts(runs) == once(runs)


def test_runs_of_which_some_messages_arrived_run_once_each(send_many, far_broker, journal):
    far_broker.lose_answers()
    runs = send_many(1200)  # the first of several pushes breaks the connection
    wait_completed(runs, 60)
    assert journal.starts(runs) == once(runs)


def test_a_run_that_was_dispatched_again_while_its_first_message_waited_runs_once(
    send_many, far_broker, worker, journal
):
    worker.kill_group()
    far_broker.lose_answers()
    runs = send_many(50)
    worker.restart()
    wait_completed(runs, 60)
    assert journal.starts(runs) == once(runs)


def test_the_sender_dispatches_again_once_answers_come(send_many, far_broker, broker_node, worker, queue):
    far_broker.lose_answers()
    wait_completed(send_many(1))
    worker.kill_group()  # now nobody but the sender dispatches
    far_broker.pass_on()
    with contextlib.closing(connect(broker_node.config()["url"], get_settings().key_prefix)) as broker:
        assert broker.oldest_waiting(queue, DEFAULT_PRIORITY) is NOTHING_WAITS

        def sent():
            send_many(1)
            return broker.oldest_waiting(queue, DEFAULT_PRIORITY) is not NOTHING_WAITS

        wait_until(sent, what="a message from the sender")
