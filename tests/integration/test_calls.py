"""A worker's call to whoever waits is not answered: the answer is read before the next command."""

import uuid

import pytest
import redis

from cgk_tasks.broker.envelope import packet_message
from cgk_tasks.broker.publisher import RedisPublisher
from cgk_tasks.runs.models import Dispatch, new_run_id
from tests.support.waiting import wait_until


@pytest.fixture
def publisher(services):
    one = RedisPublisher(services.broker_url)
    yield one
    one.close()


@pytest.fixture
def broker(services):
    with redis.Redis.from_url(services.broker_url) as client:
        yield client


@pytest.fixture
def queue(broker):
    name = f"calls-{uuid.uuid4()}"
    yield name
    broker.delete(*broker.keys(f"{name}*"))


def message(queue):
    return packet_message([Dispatch(new_run_id(), "acme", "order.created", queue, 5)])


def test_whoever_listens_is_called(publisher, broker):
    with broker.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("calls")
        wait_until(lambda: broker.pubsub_numsub("calls")[0][1], 20, "somebody listens")
        for text in ("one", "two"):
            publisher.call("calls", text)
        heard = []
        wait_until(lambda: heard.append(listener.get_message(timeout=1)) or len(list(filter(None, heard))) == 2)
    assert [one["data"] for one in heard if one] == [b"one", b"two"]


def test_what_is_published_after_calls_gets_its_own_answer(publisher, queue):
    for _ in range(3):
        publisher.call("nobody", "x")
        lengths = publisher.publish([message(queue)])
    assert lengths == {queue: 3}


def test_a_connection_that_redis_closed_after_a_call_is_made_anew(publisher, broker, queue):
    publisher.publish([message(queue)])
    (number,) = publisher._answers([(b"CLIENT", b"ID")])
    publisher.call("nobody", "x")
    broker.client_kill_filter(_id=number)
    assert publisher.publish([message(queue)]) == {queue: 2}


def test_a_call_that_redis_refuses_costs_the_next_command_nothing(publisher, broker, queue):
    user = f"mute-{uuid.uuid4()}"
    broker.acl_setuser(user, enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-publish"])
    publisher._client.connection_pool.connection_kwargs |= {"username": user, "password": "x"}
    try:
        publisher.call("nobody", "x")
        assert publisher.publish([message(queue)]) == {queue: 1}
    finally:
        broker.acl_deluser(user)


def test_a_reader_that_is_interrupted_leaves_no_answer_for_another_command(publisher, queue, monkeypatch):
    publisher.publish([message(queue)])
    publisher.call("nobody", "x")

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(publisher._connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publisher.publish([message(queue)])
    assert publisher.publish([message(queue)]) == {queue: 2}
