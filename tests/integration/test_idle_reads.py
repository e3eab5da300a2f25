"""A worker that has nothing to do waits for long at Redis, and whoever needs the answer earlier ends the wait."""

import json
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic

import pytest
import redis
from kombu import Connection, Consumer, Queue
from kombu.asynchronous import Hub

from cgk_tasks import celeryconfig
from cgk_tasks.broker import idle_read
from cgk_tasks.config import get_settings
from tests.support.waiting import wait_until

PREFIX = "idle-reads:"
OPTIONS = {**celeryconfig.broker_transport_options, "global_keyprefix": PREFIX}


@pytest.fixture(autouse=True)
def long_reads(monkeypatch):
    """Longer than redis-py waits for an answer: who waits for one that does not come gets an error."""
    monkeypatch.setattr(idle_read, "_LONG_SECONDS", 3600.0)


@pytest.fixture
def server(environment):
    with redis.Redis.from_url(get_settings().broker) as client:
        yield client


@pytest.fixture
def connect(environment):
    opened = []

    def open_one(url=None):
        transport = "cgk_tasks.broker.transport:Transport"
        opened.append(Connection(url or get_settings().broker, transport=transport, transport_options=OPTIONS))
        return opened[-1]

    yield open_one
    for one in opened:
        with suppress(redis.RedisError):
            one.close()


class Reader:
    """A channel that waits for messages of a new queue."""

    def __init__(self, connection):
        self.connection, self.channel = connection, connection.channel()
        self.queue = f"queue-{uuid.uuid4()}"
        self.received = []
        self.consumer = Consumer(self.channel, [Queue(self.queue)], on_message=self.received.append)
        self.consumer.consume()
        self.turn()

    def turn(self):
        with suppress(socket.timeout):
            self.connection.drain_events(timeout=0.02)

    def push(self, server, queue=None):
        to = queue or self.queue
        properties = {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": to}}
        server.lpush(f"{PREFIX}{to}", json.dumps({"body": "", "properties": properties}))

    def waiting(self, server):
        return server.llen(f"{PREFIX}{self.queue}")

    def is_blocked(self, server):
        return any(
            int(client["id"]) == self.channel._idle_read._reader and "b" in client["flags"]
            for client in server.client_list()
        )


@pytest.fixture
def reader(connect, server):
    one = Reader(connect())
    wait_until(lambda: one.is_blocked(server))
    return one


def test_closing_waits_for_no_message(reader, server):
    reader.connection.close()
    assert not reader.is_blocked(server)


def test_a_message_that_comes_once_nobody_listens_stays_in_its_queue(reader, server):
    reader.consumer.cancel()
    wait_until(lambda: not reader.is_blocked(server))
    reader.push(server)
    reader.connection.close()
    assert (reader.waiting(server), reader.received) == (1, [])


def test_a_message_that_came_before_nobody_listened_is_put_back(reader, server):
    reader.push(server)
    wait_until(lambda: not reader.is_blocked(server))
    reader.consumer.cancel()
    reader.connection.close()
    assert (reader.waiting(server), reader.received) == (1, [])


def test_a_queue_that_is_added_is_read_at_once(reader, server):
    other = f"queue-{uuid.uuid4()}"
    reader.consumer.add_queue(Queue(other))
    reader.consumer.consume()
    reader.push(server, other)
    wait_until(lambda: reader.turn() or reader.received)


def test_a_read_on_a_new_connection_can_be_ended_as_well(reader, server):
    server.client_kill_filter(_id=reader.channel._idle_read._reader)
    with pytest.raises(redis.ConnectionError):
        wait_until(reader.turn)
    wait_until(lambda: reader.turn() or reader.is_blocked(server))
    reader.connection.close()
    assert not reader.is_blocked(server)


def test_whoever_may_not_end_a_wait_waits_for_a_second_as_kombu_does(connect, server):
    name = f"reader-{uuid.uuid4()}"
    server.acl_setuser(name, enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-client"])
    try:
        reader = Reader(connect(get_settings().broker.replace("redis://", f"redis://{name}:x@", 1)))
        assert reader.channel.brpop_timeout == 1
        reader.connection.close()
    finally:
        server.acl_deluser(name)


def test_an_interval_that_the_application_has_chosen_stays(environment, server):
    options = {**OPTIONS, "polling_interval": 2}
    with Connection(
        get_settings().broker, transport="cgk_tasks.broker.transport:Transport", transport_options=options
    ) as connection:
        assert Reader(connection).channel.brpop_timeout == 2


def test_a_worker_in_a_thread_looks_each_second_whether_it_is_to_end(connect, server):
    with ThreadPoolExecutor(1) as thread:
        reader = thread.submit(lambda: Reader(connect())).result()
        assert reader.channel.brpop_timeout == 1
        thread.submit(reader.connection.close).result()


def test_no_timer_of_the_transport_wakes_a_worker_each_second(reader):
    hub = Hub()
    reader.connection.transport.register_with_event_loop(reader.connection.connection, hub)
    seconds = [entry.eta - monotonic() for entry in hub.timer.queue if not entry.entry.canceled]
    assert len(seconds) > 3
    assert min(seconds) > 5
    hub.close()
