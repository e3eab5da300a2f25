"""Celery's signals around a send: receivers see the message that plain Celery would publish, and may add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from celery import Celery, signals

from cgk_tasks.runs.models import new_run_id

_MESSAGE_OPTIONS = (
    "group_id", "group_index", "root_id", "parent_id", "chord", "chain", "retries", "time_limit", "soft_time_limit",
    "reply_to", "shadow", "ignore_result", "argsrepr", "kwargsrepr", "stamped_headers", "replaced_task_nesting",
)  # fmt: skip


class Publication(NamedTuple):
    """What is sent, as the receivers left it. headers: those that are not Celery's own."""

    task_id: str
    args: Any
    kwargs: Any
    headers: Mapping[str, Any]
    done: Callable[[], None]
    """To be called once it is sent."""


def are_heard() -> bool:
    """Whether anybody listens."""
    return any(one.receivers for one in (signals.before_task_publish, signals.after_task_publish, signals.task_sent))


def announce(
    app: Celery[Any], name: str, args: Any, kwargs: Any, times: Mapping[str, Any], options: Mapping[str, Any]
) -> Publication:
    """Send `before_task_publish`. times: countdown, eta and expires. options: the rest, with task_id and headers."""
    task_id = options.get("task_id") or new_run_id()
    amqp: Any = app.amqp
    stamps = {key: options[key] for key in options.get("stamped_headers") or ()}
    kept = {key: options[key] for key in _MESSAGE_OPTIONS if options.get(key) is not None}
    message = amqp.as_task_v2(
        task_id, name, list(args or ()), dict(kwargs or {}), callbacks=options.get("link"),
        errbacks=options.get("link_error"), **times, **kept, **stamps,
    )  # fmt: skip
    headers = {**message.headers, **(options.get("headers") or {})}
    queue = options.get("queue") or app.conf.task_default_queue
    place = {"exchange": "", "routing_key": getattr(queue, "name", queue)}
    signals.before_task_publish.send(
        sender=name, body=message.body, headers=headers, properties=message.properties, declare=[],
        retry_policy=dict(app.conf.task_publish_retry_policy or {}), **place,
    )  # fmt: skip

    def done() -> None:
        signals.after_task_publish.send(sender=name, body=message.body, headers=headers, **place)
        signals.task_sent.send(
            sender=name, task_id=task_id, task=name, args=message.body[0], kwargs=message.body[1],
            eta=headers["eta"], taskset=headers["group"],
        )  # fmt: skip

    own = {key: value for key, value in headers.items() if key not in message.headers}
    return Publication(task_id, message.body[0], message.body[1], own, done)
