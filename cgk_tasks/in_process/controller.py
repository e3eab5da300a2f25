"""Celery's worker without what belongs to a process of its own: no signals, no logging, no fork, no pid file."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from typing import Any, Final

from billiard import pool as billiard_pool
from celery import Celery, _state
from celery.worker import WorkController, state
from kombu.asynchronous import get_event_loop, set_event_loop

from cgk_tasks.broker.without import has_broker
from cgk_tasks.in_process.claiming import ClaimingConsumer
from cgk_tasks.in_process.pool import EmbeddedPool

_billiard: Final[Any] = billiard_pool
_celery: Final[Any] = _state


class EmbeddedController(WorkController):
    """The same steps as those of `celery worker`: supervisor, consumer, remote control, metrics and alerts if set."""

    is_embedded = True

    def _shutdown(self, warm: bool = True) -> None:
        # Celery's sets the time-out of all new sockets of the process meanwhile.
        blueprint: Any = self.blueprint
        if blueprint is not None:
            blueprint.stop(self, terminate=not warm)
            blueprint.join()


def make_controller(app: Celery[Any], concurrency: int, queues: Collection[str]) -> EmbeddedController:
    """A worker that `start()` runs in the calling thread until `ask_to_stop()`. Imports the job modules."""
    clock: Any = vars(app)["clock"]
    locks, loop, blocks = (_billiard.Lock, clock.mutex), get_event_loop(), _celery.task_join_will_block()
    set_event_loop(None)  # one that was used before, and is closed
    own: dict[str, Any] = {} if has_broker() else {"consumer_cls": ClaimingConsumer, "use_eventloop": False}
    try:
        make: Any = EmbeddedController
        controller: EmbeddedController = make(
            app=app, hostname=f"embedded-{os.getpid()}@{socket.gethostname()}", pool=EmbeddedPool,
            concurrency=concurrency, queues=list(queues), without_gossip=True, without_mingle=True,
            without_heartbeat=True, **own,
        )  # fmt: skip
    finally:
        # Celery puts dummies in place of locks, since it knows of no other threads; and forbids to wait for results.
        _billiard.Lock, clock.mutex = locks
        set_event_loop(loop)
        _celery._set_task_join_will_block(blocks)  # noqa: SLF001 - as Celery's own steps do
    return controller


def ask_to_stop(controller: EmbeddedController) -> None:
    """The worker of this process looks at it twice a second, or when its loop is woken."""
    vars(state)["should_stop"] = os.EX_OK
    hub: Any = vars(controller).get("hub")
    if hub is not None:
        hub.call_soon(lambda: None)


def forget_stop(app: Celery[Any]) -> None:
    """The worker has ended: another one may start."""
    vars(state)["should_stop"] = None
    vars(app.amqp.queues)["_consume_from"] = None
