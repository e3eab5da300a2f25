"""The queues of an application's Celery settings, as workers consume them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celery.app.amqp import AMQP, Queues
from kombu import Queue
from kombu.common import Broadcast

from cgk_tasks.broker.amqp_publisher import amqp_queue
from cgk_tasks.celery_tasks.priorities import broker_is_redis
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError


class RunAMQP(AMQP):
    """Celery's, with the queues in which runs are sent: those of the settings, and `task_default_queue`, are always
    among them.
    """

    def Queues(self, queues: Any, *args: Any, **options: Any) -> Queues:  # noqa: N802 - Celery's name
        named = _queues(queues or ())
        for name in (self.app.conf.task_default_queue, get_settings().default_queue, *get_settings().queues):
            named.setdefault(name, Queue(name))
        if not broker_is_redis():
            # The publisher declares them so, and RabbitMQ takes no second declaration that differs.
            named = {name: _quorum(queue) for name, queue in named.items()}
        found: Any = super().Queues(list(named.values()), *args, **options)
        found.max_priority = None  # the order is PostgreSQL's, and quorum queues have no x-max-priority
        for queue in found.values():
            (queue.queue_arguments or {}).pop("x-max-priority", None)
        queues_made: Queues = found
        return queues_made


def _queues(queues: Iterable[Any] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(queues, Mapping):
        listed: list[Any] = [one if isinstance(one, Queue) else _described(name, one) for name, one in queues.items()]
    else:
        listed = list(queues)
    for queue in listed:
        if isinstance(queue, Broadcast):
            raise ConfigurationError(
                f"task_queues has a Broadcast queue ({vars(queue).get('alias')}), and a run is executed once.",
                hint="Leave it out. What each worker is to do is a remote control command: celery.worker.control.",
            )
    return {queue.name: queue for queue in listed}


def _described(name: str, options: Mapping[str, Any]) -> Any:
    """A queue that is named and described in a mapping, as in Celery: a routing key that is not given is its name."""
    key = options.get("routing_key") or options.get("binding_key") or name
    return Queue.from_dict(name, **{**options, "routing_key": key})


def _quorum(queue: Any) -> Any:
    ours: Any = amqp_queue(queue.name)
    if queue.exchange is not None and queue.exchange.name:
        # Whoever publishes there himself still reaches the queue.
        ours.exchange, ours.routing_key = queue.exchange, queue.routing_key
    ours.alias = queue.alias
    return ours
