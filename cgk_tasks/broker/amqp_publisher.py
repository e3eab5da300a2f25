"""Dispatch to RabbitMQ with publisher confirms. A module of its own: with Redis no sender has to load kombu."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import OperationalError

from cgk_tasks.broker.envelope import NOTHING_WAITS, Message, Waiting
from cgk_tasks.config.amqp_tls import amqp_tls
from cgk_tasks.config.broker_url import celery_url
from cgk_tasks.errors import BrokerError

_PUSH_AT_ONCE = 500
_SHORTEST_WAIT_SECONDS = 0.01


class AmqpPublisher:
    """A publish that returns is on the disks of the quorum. Confirmations are waited for together, not one by one.

    `seconds`: what connecting, a write and the wait for confirmations may take each.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._seconds = url, seconds
        self._declared: set[str] = set()
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._refused = False

    @cached_property
    def _connection(self) -> Connection:
        limits = {"read_timeout": self._seconds, "write_timeout": self._seconds, "max_retries": 0}
        return Connection(
            celery_url(self._url),
            ssl=amqp_tls(self._url) or False,
            connect_timeout=self._seconds,
            transport_options=limits,
        )

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

    def prepare(self, messages: Sequence[Message]) -> None:
        """Nothing can be done before."""

    def publish(self, messages: Sequence[Message]) -> Mapping[str, int | None]:
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
                        content_encoding="utf-8", priority=message.priority, timeout=self._seconds,
                    )  # fmt: skip
                give_up_at = time.monotonic() + self._seconds
                while self._unconfirmed:
                    left = max(give_up_at - time.monotonic(), _SHORTEST_WAIT_SECONDS)
                    self._connection.drain_events(timeout=left)
        except self._errors as exc:
            self._drop()
            raise BrokerError(f"RabbitMQ did not take the messages: {exc}") from exc
        if self._refused:
            self._drop()
            raise BrokerError("RabbitMQ refused a message: its queue may be full.")
        return dict.fromkeys(message.queue for message in messages)

    def _declare(self, name: str) -> None:
        if name not in self._declared:
            amqp_queue(name).bind(self._connection.default_channel).declare()
            self._declared.add(name)

    def oldest_waiting(self, queue: str, priority: int) -> Waiting | None:  # noqa: ARG002 - one list for all priorities
        try:
            channel: Any = self._connection.default_channel
            declared = channel.queue_declare(queue, passive=True)
        except self._errors as exc:
            self._drop()
            if getattr(exc, "code", None) == 404:  # the queue is gone, and its messages with it
                return NOTHING_WAITS
            raise BrokerError(f"RabbitMQ does not answer: {exc}") from exc
        return None if declared.message_count else NOTHING_WAITS

    def call(self, channel: str, text: str) -> None:
        """Nobody listens: RabbitMQ has queues alone."""

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
