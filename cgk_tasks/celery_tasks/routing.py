"""Where a task is sent: what the call says, `task_routes`, and the app's defaults, by Celery's rules.

A run goes to a queue. An exchange with a routing key stands for the queue of `task_queues` that is bound to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from celery import Task
from celery.app.routes import Router
from kombu import Queue

from cgk_tasks.celery_tasks.priorities import celery_priority, priority_of
from cgk_tasks.errors import InvalidOptionError

if TYPE_CHECKING:
    from celery import Celery

_TASK_SETTINGS: Final = frozenset({"task_annotations", *(setting for _, setting in Task.from_config)})


class Routing:
    """The settings of an app that sends look at. They are read again when somebody has changed one: to look each up at
    every send would take longer than all the rest of it.
    """

    def __init__(self, app: Celery[Any], default_queue: str) -> None:
        """default_queue: what `task_default_queue` is where the application does not set it."""
        self._app = app
        self._own_default_queue = default_queue
        self._conf: Any = None
        self._changes: dict[str, Any] = {}
        self._router: Router | None = None
        self._default_queue: str | None = None
        self._default_priority: int | None = None
        self._highest: int | None = None
        self._creates_queues = True
        self._queues: tuple[Any, ...] | None = None

    def current(self) -> Routing:
        """The same, as the settings are now."""
        conf: Any = self._app.conf
        if conf is not self._conf or conf.changes != self._changes:
            self._read(conf)
        return self

    def queue_and_priority(
        self, name: str, args: Any, kwargs: Any, options: dict[str, Any], *, is_event: bool
    ) -> tuple[str | None, int | None, int | None]:
        """Of a send with these options: the queue, our priority, and the sender's where ours does not lead back to it.
        None for what the settings of the platform, or an event's job, decide.

        Raises InvalidOptionError, and Celery's QueueNotFound where `task_create_missing_queues` is off.
        """
        if self._router is not None:
            options = self._routed(self._router, name, args, kwargs, options)
        queue = options.get("queue")
        if queue is not None:
            queue = self._known(queue)
        elif options.get("exchange") or options.get("routing_key"):
            queue = self._bound_queue(options.get("exchange"), options.get("routing_key"))
        elif not is_event:
            queue = self._default_queue
        priority = options.get("priority")
        if priority is None:
            priority = self._default_priority
        if priority is None:
            return queue, None, None
        ours = priority_of(priority, self._highest)
        return queue, ours, priority if celery_priority(ours) != priority else None

    def _read(self, conf: Any) -> None:
        changes, amqp = dict(conf.changes), cast("Any", self._app.amqp)
        queues = (conf.task_queues, conf.task_default_queue, conf.task_create_missing_queues)
        chosen = "queues" in vars(amqp) and vars(amqp)["queues"]._consume_from is not None  # noqa: SLF001
        if self._queues is not None and self._queues != queues and not chosen:
            vars(amqp).pop("queues", None)  # made anew from the settings, unless a worker has chosen from them
        self._queues = queues
        rebind(self._app, {**self._changes, **changes})  # also those that are not set any more
        amqp.flush_routes()
        routes = amqp.routes
        self._router = Router(routes, app=self._app) if routes else None
        default = conf.task_default_queue
        self._default_queue = default if default != self._own_default_queue else None
        self._default_priority = conf.task_default_priority
        self._highest = conf.task_queue_max_priority
        self._creates_queues = conf.task_create_missing_queues
        self._conf, self._changes = conf, changes

    @staticmethod
    def _routed(router: Router, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> dict[str, Any]:
        task_type = options.get("task_type")
        route = router.lookup_route(name, args or (), kwargs or {}, dict(options), task_type)
        if not route:
            return options
        route = {"queue": route} if isinstance(route, str) else route
        if not isinstance(route, Mapping):
            raise InvalidOptionError("task_routes", f"gives {name} {route!r}, which is neither a queue nor a mapping")
        return {**route, **{option: value for option, value in options.items() if value is not None}}

    def _known(self, queue: Any) -> str:
        if isinstance(queue, Queue):
            return str(queue.name)
        queues: Any = self._app.amqp.queues
        if isinstance(queue, str) and queue not in queues and (queue in queues.aliases or not self._creates_queues):
            return str(Router(queues=queues).expand_destination({"queue": queue})["queue"].name)
        name: str = queue
        return name

    def _bound_queue(self, exchange: Any, routing_key: str | None) -> str:
        """The queue that is bound so. Raises InvalidOptionError where there is none, or are several."""
        name = getattr(exchange, "name", exchange) or ""
        bound = [
            str(queue.name)
            for queue in self._app.amqp.queues.values()
            if (queue.exchange.name if queue.exchange is not None else "") == name or not name
            if _is_bound(queue, routing_key)
        ]
        if len(bound) == 1:
            return bound[0]
        option = "routing_key" if routing_key else "exchange"
        found = f"leads to {', '.join(bound)}, and a run goes to one queue" if bound else "leads to no queue"
        raise InvalidOptionError(
            option, f"{routing_key or name!r} {found}.", hint="Name the queue: queue=..., or bind one in task_queues."
        )


def rebind(app: Celery[Any], changes: Mapping[str, Any]) -> None:
    """Give the tasks what an application has set after they were made: their defaults and `task_annotations`."""
    if not changes.keys() & _TASK_SETTINGS:
        return
    vars(app).pop("annotations", None)
    for task in app.tasks.values():
        if (again := getattr(type(task), "bind_again", None)) is not None:
            again()


def _is_bound(queue: Any, routing_key: str | None) -> bool:
    kind = getattr(queue.exchange, "type", None) or "direct"
    if kind == "fanout" or routing_key is None:
        return True
    if kind != "topic":
        return bool(routing_key in {queue.routing_key, queue.name})
    words = [{"*": r"[^.]+", "#": r".*"}.get(word, re.escape(word)) for word in (queue.routing_key or "").split(".")]
    pattern = r"\.".join(words).replace(r"\..*", r"(?:\..*)?").replace(r".*\.", r"(?:.*\.)?")
    return re.fullmatch(pattern, routing_key) is not None
