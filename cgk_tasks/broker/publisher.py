"""Dispatch to the broker: Redis with one pipelined LPUSH, or RabbitMQ with publisher confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import redis
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import OperationalError

from cgk_tasks.broker.envelope import Message, handed_over_at, redis_key, redis_text
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import celery_url, is_redis, redis_py_url
from cgk_tasks.errors import BrokerError
from cgk_tasks.runtime import Part, current_runtime

_PUSH_AT_ONCE = 500
_PAUSE_AFTER_FAILURE_SECONDS = 1.0
NOTHING_WAITS = float("inf")


class Publisher(Protocol):
    """A broker, seen by the senders and the dispatcher."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Dispatch messages. Raises BrokerError if that is not certain; dispatching again is harmless."""

    def waiting_since(self, queue: str, priority: int) -> float | None:
        """When the oldest waiting message was dispatched (seconds since 1970), NOTHING_WAITS if there is none.

        None if this broker cannot tell. Raises BrokerError.
        """

    def ping(self) -> None:
        """Raises BrokerError if the broker does not answer."""

    def close(self) -> None: ...


class RedisPublisher:
    def __init__(self, url: str, prefix: str = "") -> None:
        self._client = redis.Redis.from_url(
            redis_py_url(url), socket_connect_timeout=1.0, socket_timeout=5.0, health_check_interval=25
        )
        self._prefix = prefix

    def publish(self, messages: Sequence[Message]) -> None:
        lists: dict[str, list[bytes]] = {}
        for message in messages:
            key = redis_key(message.queue, message.priority, self._prefix)
            lists.setdefault(key, []).append(redis_text(message))
        pushes = [
            (key, texts[at : at + _PUSH_AT_ONCE])
            for key, texts in lists.items()
            for at in range(0, len(texts), _PUSH_AT_ONCE)
        ]
        try:
            connection: Any = self._client.connection_pool.get_connection()
        except (redis.RedisError, OSError) as exc:
            raise BrokerError(f"Redis cannot be reached: {exc}") from exc
        try:
            connection.send_packed_command(connection.pack_commands([("LPUSH", key, *texts) for key, texts in pushes]))
            for _ in pushes:
                connection.read_response()
        except (redis.RedisError, OSError) as exc:
            connection.disconnect()  # there may be answers left in it
            raise BrokerError(f"Redis did not take the messages: {exc}") from exc
        finally:
            self._client.connection_pool.release(connection)

    def waiting_since(self, queue: str, priority: int) -> float | None:
        try:
            text: Any = self._client.lindex(redis_key(queue, priority, self._prefix), -1)
        except (redis.RedisError, OSError) as exc:
            raise BrokerError(f"Redis does not answer: {exc}") from exc
        return NOTHING_WAITS if text is None else handed_over_at(text)

    def ping(self) -> None:
        try:
            self._client.ping()
        except (redis.RedisError, OSError) as exc:
            raise BrokerError(f"Redis does not answer: {exc}") from exc

    def close(self) -> None:
        self._client.close()


class AmqpPublisher:
    """A publish that returns is on the disks of the quorum. Confirmations are waited for together, not one by one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._declared: set[str] = set()
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._refused = False

    @cached_property
    def _connection(self) -> Connection:
        return Connection(celery_url(self._url), connect_timeout=1.0)

    @cached_property
    def _channel(self) -> Any:
        channel: Any = self._connection.default_channel
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_confirm)
        channel.events["basic_nack"].add(self._on_refusal)
        self._sent, self._unconfirmed, self._refused = 0, set(), False
        return channel

    def _on_confirm(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {later for later in self._unconfirmed if later > tag}
        else:
            self._unconfirmed.discard(tag)

    def _on_refusal(self, tag: int, multiple: bool) -> None:
        self._refused = True
        self._on_confirm(tag, multiple)

    @cached_property
    def _errors(self) -> tuple[type[BaseException], ...]:
        # OperationalError: what ensure_connection makes of the others.
        return (*self._connection.connection_errors, *self._connection.channel_errors, OperationalError, OSError)

    def publish(self, messages: Sequence[Message]) -> None:
        try:
            producer = Producer(self._channel, auto_declare=False)
            for at in range(0, len(messages), _PUSH_AT_ONCE):
                for message in messages[at : at + _PUSH_AT_ONCE]:
                    self._declare(message.queue)
                    self._sent += 1
                    self._unconfirmed.add(self._sent)
                    producer.publish(
                        message.body, routing_key=message.queue, exchange="", headers=dict(message.headers),
                        correlation_id=message.id, delivery_mode=2, content_type="application/json",
                        content_encoding="utf-8", priority=message.priority, timeout=5.0,
                    )  # fmt: skip
                while self._unconfirmed:
                    self._connection.drain_events(timeout=5.0)
        except self._errors as exc:
            self._drop()
            raise BrokerError(f"RabbitMQ did not take the messages: {exc}") from exc
        if self._refused:
            self._drop()
            raise BrokerError("RabbitMQ refused a message: its queue may be full.")

    def _declare(self, name: str) -> None:
        if name not in self._declared:
            amqp_queue(name).bind(self._connection.default_channel).declare()
            self._declared.add(name)

    def waiting_since(self, queue: str, priority: int) -> float | None:  # noqa: ARG002 - one list for all priorities
        try:
            channel: Any = self._connection.default_channel
            declared = channel.queue_declare(queue, passive=True)
        except self._errors as exc:
            self._drop()
            if getattr(exc, "code", None) == 404:  # the queue is gone, and its messages with it
                return NOTHING_WAITS
            raise BrokerError(f"RabbitMQ does not answer: {exc}") from exc
        return None if declared.message_count else NOTHING_WAITS

    def ping(self) -> None:
        try:
            self._connection.ensure_connection(max_retries=1, timeout=2)
        except self._errors as exc:
            self._drop()
            raise BrokerError(f"RabbitMQ does not answer: {exc}") from exc

    def _drop(self) -> None:
        """Forget a connection that failed. Closing it in order would wait a minute for a RabbitMQ that hangs."""
        connection = self._forget()
        if connection is not None:
            connection.collect(socket_timeout=1.0)

    def _forget(self) -> Connection | None:
        self._declared.clear()
        self.__dict__.pop("_channel", None)
        connection: Connection | None = self.__dict__.pop("_connection", None)
        return connection

    def close(self) -> None:
        connection = self._forget()
        if connection is not None:
            connection.release()


def amqp_queue(name: str) -> Queue:
    """A durable quorum queue on RabbitMQ's default exchange, where the routing key is the queue's name."""
    return Queue(name, Exchange(""), routing_key=name, queue_arguments={"x-queue-type": "quorum"})


class SafePublisher:
    """A runtime's publisher. It pauses after a failure, so that sends stay quick while the broker is down."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self._url, self._prefix = url, prefix
        self._local = threading.local()
        self._rest_until = 0.0

    def _publisher(self) -> Publisher:
        # By thread: AMQP channels are not thread-safe.
        publisher: Publisher | None = getattr(self._local, "publisher", None)
        if publisher is None:
            publisher = self._local.publisher = connect(self._url, self._prefix)
        return publisher

    def publish(self, messages: Sequence[Message]) -> None:
        if time.monotonic() < self._rest_until:
            raise BrokerError("The broker did not answer a moment ago.")
        try:
            self._publisher().publish(messages)
        except BrokerError:
            self._rest_until = time.monotonic() + _PAUSE_AFTER_FAILURE_SECONDS
            raise

    def waiting_since(self, queue: str, priority: int) -> float | None:
        return self._publisher().waiting_since(queue, priority)

    def ping(self) -> None:
        self._publisher().ping()

    def close(self) -> None:
        """Close this thread's connection. Those of other threads go with their threads."""
        if publisher := self._local.__dict__.pop("publisher", None):
            publisher.close()


def connect(url: str, prefix: str = "") -> Publisher:
    return RedisPublisher(url, prefix) if is_redis(url) else AmqpPublisher(url)


PUBLISHER = Part(lambda: SafePublisher(get_settings().broker, get_settings().key_prefix), close=SafePublisher.close)


def get_publisher() -> SafePublisher:
    """The publisher of the current runtime for CGK_BROKER_URL. Raises ConfigurationError when none is set."""
    return PUBLISHER.current()


def close_publishers() -> None:
    current_runtime().drop(PUBLISHER)
