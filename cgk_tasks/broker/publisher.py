"""Dispatch to the broker: Redis with one pipelined LPUSH, or RabbitMQ with publisher confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cgk_tasks.broker.envelope import NOTHING_WAITS, Message, Waiting, redis_key, waiting_of
from cgk_tasks.broker.without import NoBroker
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_postgresql, is_redis, redis_py_url
from cgk_tasks.errors import BrokerError
from cgk_tasks.logger import get_logger
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sockets import has_input

log = get_logger("cgk_tasks.sender")

_PUSH_AT_ONCE = 500
_PAUSE_AFTER_FAILURE_SECONDS = 1.0
_TRY_SECONDS = 10.0
"""No single try takes longer."""
_SEND_SECONDS = 0.5
_DISPATCH_SECONDS = 5.0
_SHORTEST_WAIT_SECONDS = 0.01

Lengths = Mapping[str, int | None]
"""How many messages wait in the longest list of each queue that was published to; None if the broker does not say."""

T = TypeVar("T")


class Publisher(Protocol):
    """A broker, seen by the senders and the dispatcher."""

    def prepare(self, messages: Sequence[Message]) -> None:
        """Do now what a publish of them needs not do later."""

    def publish(self, messages: Sequence[Message]) -> Lengths:
        """Dispatch messages. Raises BrokerError if that is not certain; dispatching again is harmless."""

    def oldest_waiting(self, queue: str, priority: int) -> Waiting | None:
        """The oldest waiting message, NOTHING_WAITS if there is none.

        None if this broker cannot tell. Raises BrokerError.
        """

    def call(self, channel: str, text: str) -> None:
        """Say something to whoever listens just now, if this broker has such channels. Raises BrokerError."""

    def ping(self) -> None:
        """Raises BrokerError if the broker does not answer."""

    def close(self) -> None: ...


class RedisPublisher:
    """`seconds`: what a publish may take in all, connecting included."""

    def __init__(self, url: str, prefix: str = "", seconds: float = _SEND_SECONDS) -> None:
        self._client = redis.Redis.from_url(
            redis_py_url(url), socket_connect_timeout=seconds, socket_timeout=seconds, health_check_interval=25,
            retry=Retry(NoBackoff(), 0),  # redis-py would connect four times, with pauses in between
        )  # fmt: skip
        self._connection: Any = None
        self._unread = 0
        """Answers to calls, which nobody waits for: they are read before the next command."""
        self._prefix, self._seconds = prefix, seconds

    def prepare(self, messages: Sequence[Message]) -> None:
        for message in messages:
            _text = message.redis_text

    def publish(self, messages: Sequence[Message]) -> Lengths:
        lists: dict[tuple[str, int], list[bytes]] = {}
        for message in messages:
            lists.setdefault((message.queue, message.priority), []).append(message.redis_text)
        pushes = [
            (queue, redis_key(queue, priority, self._prefix), texts[at : at + _PUSH_AT_ONCE])
            for (queue, priority), texts in lists.items()
            for at in range(0, len(texts), _PUSH_AT_ONCE)
        ]
        lengths: dict[str, int | None] = {}
        answers = self._answers([(b"LPUSH", key.encode(), *texts) for _, key, texts in pushes])
        for (queue, _, _), length in zip(pushes, answers, strict=True):
            lengths[queue] = max(length, lengths.get(queue) or 0)
        return lengths

    def _answers(self, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        """Those to commands that are sent together."""
        give_up_at = time.monotonic() + self._seconds
        connection: Any = None
        try:
            connection = self._connected(give_up_at)
            _wait_until(give_up_at, connection)
            connection.send_packed_command([_command(*command) for command in commands])
            answers = []
            for _ in commands:
                _wait_until(give_up_at, connection)
                answers.append(connection.read_response())
        except BaseException as exc:
            self._failed(connection, exc)
            raise
        return answers

    def _failed(self, connection: Any, exc: BaseException) -> None:
        """Raises BrokerError for what Redis or the network has done."""
        if connection is not None:
            self._disconnect(connection)  # there may be answers left in it
        if isinstance(exc, redis.RedisError | OSError):
            reason = "Redis cannot be reached" if connection is None else "Redis did not take the messages"
            raise BrokerError(f"{reason}: {exc}") from exc

    def _disconnect(self, connection: Any) -> None:
        self._unread = 0
        connection.disconnect()

    def _connected(self, give_up_at: float) -> Any:
        """The connection, which is kept: redis-py's pool examines and counts it whenever it is taken or given back."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._client.connection_pool.get_connection()
        elif not (self._has_read_all(connection, give_up_at) and _is_open(connection)):
            self._disconnect(connection)
            connection.connect()
        return connection

    def _has_read_all(self, connection: Any, give_up_at: float) -> bool:
        """Whether the answers to calls could be read."""
        while self._unread:
            try:
                _wait_until(give_up_at, connection)
                with suppress(redis.ResponseError):  # it was a hint alone
                    connection.read_response()
                self._unread -= 1
            except (redis.RedisError, OSError):
                return False
            except BaseException:  # it is interrupted, perhaps amid an answer
                self._disconnect(connection)
                raise
        return True

    def oldest_waiting(self, queue: str, priority: int) -> Waiting | None:
        try:
            text: Any = self._client.lindex(redis_key(queue, priority, self._prefix), -1)
        except (redis.RedisError, OSError) as exc:
            raise BrokerError(f"Redis does not answer: {exc}") from exc
        return NOTHING_WAITS if text is None else waiting_of(text)

    def call(self, channel: str, text: str) -> None:
        """Waits for no answer: a process that has said that a run has ended need not wait for Redis once more."""
        give_up_at = time.monotonic() + self._seconds
        connection: Any = None
        try:
            connection = self._connected(give_up_at)
            _wait_until(give_up_at, connection)
            connection.send_packed_command([_command(b"PUBLISH", channel.encode(), text.encode())])
            self._unread += 1
        except BaseException as exc:
            self._failed(connection, exc)
            raise

    def ping(self) -> None:
        try:
            self._client.ping()
        except (redis.RedisError, OSError) as exc:
            raise BrokerError(f"Redis does not answer: {exc}") from exc

    def close(self) -> None:
        self._client.close()


def _is_open(connection: Any) -> bool:
    """Whether an idle connection of redis-py still is one. What can be read from it is its end, or belongs to TLS."""
    sock = connection._sock  # noqa: SLF001 - redis-py looks by reading, which raises and catches an exception each time
    if sock is None:
        return False
    try:
        return not has_input(sock.fileno()) or not connection.can_read()
    except (redis.RedisError, OSError, ValueError):
        return False


def _command(*parts: bytes) -> bytes:
    """As Redis reads a command, in one piece and so with one call of the system."""
    return b"".join((b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)))


def _wait_until(give_up_at: float, connection: Any) -> None:
    """The next write or read of a connection of redis-py gives up then, or a tenth of that time later: to set the
    time-out is a call of the system, and mostly it is nearly what it was.
    """
    left = give_up_at - time.monotonic()
    if left <= 0:
        raise redis.TimeoutError("it took too long")
    sock, wanted = connection._sock, max(left, _SHORTEST_WAIT_SECONDS)  # noqa: SLF001 - redis-py has no time-out a command
    if not wanted <= (sock.gettimeout() or 0.0) <= wanted * 1.1:
        sock.settimeout(wanted)


class SafePublisher:
    """A runtime's publisher. After a failure it pauses, and then one thread tries while the others still fail.

    So sends stay quick while the broker is down or frozen, however many there are.
    """

    def __init__(self, url: str, prefix: str = "", seconds: float = _SEND_SECONDS) -> None:
        self.postponed = RecurringWarning(log, "dispatch_postponed", "dispatch_goes_on", counted="runs")
        """While the broker is away every send says so, and the dispatcher with each try."""
        self._url, self._prefix, self._seconds = url, prefix, seconds
        self._local = threading.local()
        self._has_failed = False
        self._rest_until = 0.0
        self._tries_until = 0.0

    def _publisher(self) -> Publisher:
        # By thread: AMQP channels are not thread-safe.
        publisher: Publisher | None = getattr(self._local, "publisher", None)
        if publisher is None:
            publisher = self._local.publisher = connect(self._url, self._prefix, self._seconds)
        return publisher

    @property
    def rests(self) -> bool:
        """The broker failed a moment ago: nothing is tried yet."""
        return time.monotonic() < self._rest_until

    def prepare(self, messages: Sequence[Message]) -> None:
        self._publisher().prepare(messages)

    def publish(self, messages: Sequence[Message]) -> Lengths:
        return self._attempt(lambda publisher: publisher.publish(messages))

    def oldest_waiting(self, queue: str, priority: int) -> Waiting | None:
        return self._attempt(lambda publisher: publisher.oldest_waiting(queue, priority))

    def call(self, channel: str, text: str) -> None:
        self._attempt(lambda publisher: publisher.call(channel, text))

    def _attempt(self, action: Callable[[Publisher], T]) -> T:
        if not self._has_failed:
            return self._noting_failure(action)
        now = time.monotonic()
        if self.rests or now < self._tries_until:
            raise BrokerError("The broker did not answer a moment ago.")
        # No lock: one that a time limit interrupts before it could be released would stay closed. Two may try at once.
        self._tries_until = now + _TRY_SECONDS
        try:
            result = self._noting_failure(action)
        finally:
            self._tries_until = 0.0
        self._has_failed = False
        return result

    def _noting_failure(self, action: Callable[[Publisher], T]) -> T:
        try:
            return action(self._publisher())
        except BrokerError:
            self._rest_until = time.monotonic() + _PAUSE_AFTER_FAILURE_SECONDS
            self._has_failed = True
            raise

    def ping(self) -> None:
        self._publisher().ping()

    def close(self) -> None:
        """Close this thread's connection. Those of other threads go with their threads."""
        if publisher := self._local.__dict__.pop("publisher", None):
            publisher.close()


def connect(url: str, prefix: str = "", seconds: float = _SEND_SECONDS) -> Publisher:
    if is_postgresql(url):
        return NoBroker()
    if is_redis(url):
        return RedisPublisher(url, prefix, seconds)
    from cgk_tasks.broker.amqp_publisher import AmqpPublisher  # it needs kombu, which the others do not

    return AmqpPublisher(url, seconds)


def _made_for(seconds: float) -> Part[SafePublisher]:
    def make() -> SafePublisher:
        settings = get_settings()
        return SafePublisher(settings.broker, settings.key_prefix, seconds)

    return Part(make, close=SafePublisher.close)


PUBLISHER = _made_for(_SEND_SECONDS)
PATIENT_PUBLISHER = _made_for(_DISPATCH_SECONDS)


def get_publisher() -> SafePublisher:
    """The publisher of the current runtime for CGK_BROKER_URL. Raises ConfigurationError when none is set.

    A publish takes half a second at most: a sender has better things to do than to wait for a broker.
    """
    return PUBLISHER.current()


def get_patient_publisher() -> SafePublisher:
    """For the dispatcher and for checks, which may wait some seconds. Otherwise as `get_publisher`."""
    return PATIENT_PUBLISHER.current()


def close_publishers() -> None:
    for part in (PUBLISHER, PATIENT_PUBLISHER):
        current_runtime().drop(part)
