"""Kombu's Redis transport without acknowledgements, and with a guard for the moment in which Redis goes away.

PostgreSQL knows which runs are dispatched and which are claimed, so acknowledgements in Redis protect nothing and
are two thirds of a worker's cost. Without them a popped message is simply ours.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import Empty
from typing import Any, Final

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import ResponseError

from cgk_tasks.broker import dead_messages
from cgk_tasks.broker.idle_read import IdleRead
from cgk_tasks.broker.unreadable import UnreadableMessageError, read_envelope

log = logging.getLogger("cgk_tasks.transport")

_LOOK_AT_BINDINGS_SECONDS: Final = 60.0


class QoS(virtual.QoS):
    """Counts prefetched messages in memory, and puts them back when the worker stops or reconnects."""

    _delivered: OrderedDict[str, Any]
    _flush: Callable[[], None]

    def restore_unacked(self) -> list[Any]:  # type: ignore[override]  # kombu-stubs say that Kombu's returns None
        """Put the messages back, up to the first that Redis does not take. Reports no errors to Kombu, which would
        write the messages to a file: they carry ids of runs alone, which are dispatched again.
        """
        self._flush()
        delivered = self._delivered
        try:
            while delivered:
                self.channel._restore(next(reversed(delivered.values())))  # noqa: SLF001 - as Kombu does
                delivered.popitem()
        except Exception as exc:  # noqa: BLE001 - also AttributeError: Celery may have taken the connection apart
            log.warning("%d messages were not put back; their runs will be dispatched again: %r", len(delivered), exc)
            delivered.clear()
        return []


class Channel(redis.Channel):
    ack_emulation = False

    read_queue: str | None = None
    """Where the last message lay."""

    connection_errors: tuple[type[Exception], ...]
    brpop_timeout: Any
    _queue_cycle: Any
    _do_restore_message: Any
    _flush_brpop_reauth: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = QoS  # type: ignore[assignment]  # Kombu swaps in this class's base itself
        self._idle_read = IdleRead()
        self._shortest_read: float = self.brpop_timeout

    def _brpop_start(self, timeout: float | None = None) -> None:
        is_chosen = self.connection.polling_interval is not None  # by the application
        # A worker in a thread is a test's, who ends it by a word that its loop looks for between two reads.
        if not is_chosen and threading.current_thread() is threading.main_thread():
            self.brpop_timeout = self._idle_read.seconds(self.client.connection, self._shortest_read)
        kombus: Any = super()
        kombus._brpop_start(timeout)  # noqa: SLF001

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        consumer = super().basic_consume(queue, *args, **kwargs)
        self._end_read()  # it is no read of this queue
        return consumer

    def _basic_cancel(self, consumer_tag: str) -> Any:
        kombus: Any = super()
        cancelled = kombus._basic_cancel(consumer_tag)  # noqa: SLF001
        self._end_read()  # what comes to this queue is for others
        return cancelled

    def close(self) -> None:
        self._end_read()  # Kombu waits for its answer
        super().close()

    def _end_read(self) -> None:
        if self._in_poll:
            self._idle_read.end(self._in_poll, self.pool)

    def _brpop_read(self, **options: Any) -> bool:
        """As Kombu's, except for a message that cannot be read: there it raises, which ends the worker."""
        try:
            try:
                answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            key, text = answer
            queue = self.read_queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            consumers: Any = self.connection._callbacks  # noqa: SLF001 - as Kombu does, which may lose it at a close
            if queue not in consumers:
                with self.conn_or_acquire() as client:
                    client.rpush(bytes_to_str(key), text)
                raise Empty
            try:
                self.connection._deliver(read_envelope(text), queue)  # noqa: SLF001 - as Kombu does
            except UnreadableMessageError as exc:
                self.set_aside(queue, text, str(exc))
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        try:
            return super().decode_body(body, encoding)
        except Exception:  # noqa: BLE001 - whatever base64 or a codec says
            raise UnreadableMessageError("its body is not encoded as it says") from None

    def put_back(self, message: Any) -> None:
        """Put a message to the front of its list, where it came from."""
        info = message.delivery_info
        with self.conn_or_acquire() as client:
            self._do_restore_message(message.serializable(), info["exchange"], info["routing_key"], client)

    def _restore(self, message: Any, leftmost: bool = False) -> None:  # noqa: ARG002 - Kombu's signature
        self.put_back(message)

    def set_aside(self, queue: str, text: bytes | str, problem: str, refused: str | None = None) -> None:
        """Put a message that cannot be read, or is refused, where people find it."""
        dead_messages.report(queue, len(text), problem, refused)
        try:
            with self.conn_or_acquire() as client:
                dead_messages.keep(client, queue, text, problem)
        except ResponseError as exc:  # Redis is full, for instance
            log.warning("The message that was set aside was not kept: %s", exc)


class Transport(redis.Transport):
    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """As Kombu's, which looks once a second at what is due each 20 minutes: the bindings of queues that expire."""
        super().register_with_event_loop(connection, loop)
        cycle: Any = self.cycle
        each_second = getattr(cycle, "_binding_expiry_tref", None)
        if each_second is not None:
            each_second.cancel()
            look = cycle.maybe_refresh_binding_expiry
            cycle._binding_expiry_tref = loop.call_repeatedly(_LOOK_AT_BINDINGS_SECONDS, look)  # noqa: SLF001
