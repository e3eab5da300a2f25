"""A worker that is drained, or out of touch with PostgreSQL, takes no messages, and gives back what it has not begun.

Out of touch it could not claim them, so each would be lost until the dispatcher misses its runs. Others take them at
once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from celery import Celery, bootsteps
from celery.worker import state
from kombu import Producer

from cgk_tasks.broker.envelope import PACKET_HEADER
from cgk_tasks.celery_tasks.supervisors import supervisor_of
from cgk_tasks.worker import process_state

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

log = structlog.get_logger("cgk_tasks.worker")

_LOOK_SECONDS: Final = 5.0
"""The supervisor tells at once when something has changed. This is for one that cannot."""
_REST_SECONDS: Final = 5.0
"""How long the worker leaves messages to others after one that it could not claim."""

_steps: dict[int, ConsumptionStep] = {}


class Packet(Protocol):
    """A message in the worker's main process, as Celery keeps it."""

    is_given_back: bool

    @property
    def task(self) -> Any: ...
    @property
    def message(self) -> Any: ...
    @property
    def request_dict(self) -> Mapping[str, Any]: ...
    @property
    def run_ids(self) -> list[str]: ...
    @property
    def acknowledged(self) -> bool: ...
    def acknowledge(self) -> None: ...
    def reject(self, requeue: bool = False) -> None: ...


class ConsumptionStep(bootsteps.StartStopStep):
    """Stops to consume, and begins again. Everything here happens in the consumer's own loop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Consumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._consumer: Any = consumer
        self._timer: Any = None
        self._stopped: Any = None  # the connection's consumer of tasks, if it does not consume now
        self._given_back = 0
        self._rest_until = 0.0

    def start(self, consumer: Consumer) -> None:  # noqa: ARG002 - Celery's signature
        _steps[id(self._consumer.app)] = self
        self._soon(self._look)  # a worker that is drained already when it connects again takes nothing
        self._timer = self._consumer.timer.call_repeatedly(_LOOK_SECONDS, self._soon, (self._look,))
        if (supervisor := supervisor_of(self._consumer.app)) is not None:
            supervisor.on_consumption_changed = partial(self._soon, self._look)

    def stop(self, consumer: Consumer) -> None:  # noqa: ARG002 - Celery's signature
        _steps.pop(id(self._consumer.app), None)
        if self._timer is not None:
            self._timer.cancel()

    def refused(self, request: Packet) -> None:
        """A child could not claim these runs. Called from any thread."""
        self._soon(self._take_back, request)

    def _soon(self, action: Callable[..., None], *args: Any) -> None:
        self._consumer.call_soon(self._survive, action, *args)

    def _survive(self, action: Callable[..., None], *args: Any) -> None:
        """The consumer reconnects after a loss of its connection; anything else would end the worker."""
        try:
            action(*args)
        except self._consumer.connection_errors:
            raise
        except Exception:
            log.exception("consumption_not_changed")

    def _take_back(self, request: Packet) -> None:
        self._rest_until = time.monotonic() + _REST_SECONDS
        self._consumer.timer.call_after(_REST_SECONDS, self._soon, (self._look,))
        self._look()
        self._give_back([request])

    def _look(self) -> None:
        consumer = self._consumer.task_consumer
        if consumer is None:
            return
        supervisor = supervisor_of(self._consumer.app)
        is_drained = supervisor is not None and supervisor.draining.is_wanted
        is_out_of_touch = supervisor is not None and supervisor.is_out_of_touch
        should_rest = is_drained or is_out_of_touch or time.monotonic() < self._rest_until
        if should_rest and self._stopped is not consumer:
            consumer.cancel()
            self._stopped, self._given_back = consumer, 0
            self._give_back(_unclaimed())
            reason = (
                "it is drained"
                if is_drained
                else "its heartbeats do not get through"
                if is_out_of_touch
                else "runs could not be claimed"
            )
            log.warning("consumption_stopped", reason=reason, given_back=self._given_back)
        elif not should_rest and self._stopped is consumer:
            self._stopped = None
            consumer.consume()
            log.warning("consumption_resumed", given_back=self._given_back)
        if supervisor is not None:
            supervisor.draining.has_stopped = should_rest

    def _give_back(self, requests: Iterable[Packet]) -> None:
        # Each goes to the front of its list, so the oldest one last.
        for request in sorted(requests, key=_dispatched_at, reverse=True):
            if not request.is_given_back:
                _put_back(request)
                request.is_given_back = True
                self._given_back += 1


def refused(app: Celery, request: Packet) -> None:
    """A child of this worker could not claim the message's runs."""
    if step := _steps.get(id(app)):
        step.refused(request)


def _unclaimed() -> list[Packet]:
    """The messages that are here, and whose runs nobody here holds.

    To give one back while a child is just claiming its runs does no harm: only one claim succeeds.
    """
    held = {run.id for run in process_state.shared().held()}
    return [
        request
        for request in list(state.reserved_requests)
        if getattr(request.task, "durable", False) and held.isdisjoint(request.run_ids)
    ]


def _dispatched_at(request: Packet) -> float:
    at = request.request_dict.get(PACKET_HEADER, 0.0)
    return at if isinstance(at, float | int) else 0.0


def _put_back(request: Packet) -> None:
    message = request.message
    if put_back := getattr(message.channel, "put_back", None):
        put_back(message)
        request.acknowledge()
    elif not request.acknowledged:
        request.reject(requeue=True)
    else:  # RabbitMQ has forgotten it: a child had begun with it
        info, properties = message.delivery_info, message.properties
        Producer(message.channel, auto_declare=False).publish(
            message.body, exchange=info["exchange"], routing_key=info["routing_key"], headers=message.headers,
            content_type=message.content_type, content_encoding=message.content_encoding, delivery_mode=2,
            correlation_id=properties.get("correlation_id"), priority=properties.get("priority"),
        )  # fmt: skip
