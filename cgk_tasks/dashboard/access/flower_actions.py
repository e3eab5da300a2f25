"""What Flower's own handlers may change, as the audit records it: the action, of what, and with which values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flower.api import control, tasks
from tornado.web import RequestHandler

_ACTIONS: Final[Mapping[type[RequestHandler], str]] = {
    control.WorkerShutDown: "shut down worker",
    control.WorkerPoolRestart: "restart worker pool",
    control.WorkerPoolGrow: "grow worker pool",
    control.WorkerPoolShrink: "shrink worker pool",
    control.WorkerPoolAutoscale: "autoscale worker pool",
    control.WorkerQueueAddConsumer: "add consumer",
    control.WorkerQueueCancelConsumer: "cancel consumer",
    control.TaskRevoke: "revoke task",
    control.TaskTimout: "set time limits of task",
    control.TaskRateLimit: "set rate limit of task",
    tasks.TaskApply: "apply task",
    tasks.TaskAsyncApply: "apply task asynchronously",
    tasks.TaskSend: "send task",
    tasks.TaskAbort: "abort task",
}
_DEFAULTS: Final[Mapping[type[RequestHandler], Mapping[str, str]]] = {
    control.WorkerPoolGrow: {"n": "1"},
    control.WorkerPoolShrink: {"n": "1"},
    control.TaskRevoke: {"terminate": "False", "signal": "SIGTERM"},
}
_SENDING: Final = (tasks.TaskApply, tasks.TaskAsyncApply, tasks.TaskSend)
_OPTIONS_OF_A_SEND: Final = ("queue", "exchange", "routing_key", "priority", "eta", "countdown", "expires", "task_id")
_LONGEST_VALUE = 200


def flower_action(handler: RequestHandler) -> tuple[str, str, dict[str, Any]]:
    """The action of a request that changes something, its subject (a worker or task), and its details.

    A handler that is not known here, of a later Flower, is called by its method and path.
    """
    kind = next((one for one in _ACTIONS if isinstance(handler, one)), None)
    subject = handler.path_args[0] if handler.path_args else ""
    if kind is None:
        return f"{handler.request.method} {handler.request.path}", subject or "", _arguments(handler)
    if kind in _SENDING:
        return _ACTIONS[kind], subject, _sending(handler.request.body)
    return _ACTIONS[kind], subject, {**_DEFAULTS.get(kind, {}), **_arguments(handler)}


def _arguments(handler: RequestHandler) -> dict[str, str]:
    return {
        name: values[-1].decode(errors="replace")[:_LONGEST_VALUE]
        for name, values in handler.request.arguments.items()
        if name != "_xsrf" and values
    }


def _sending(body: bytes) -> dict[str, Any]:
    """How it is sent and what its arguments are called. Their values are a payload, which does not belong here."""
    try:
        given = json.loads(body) if body else {}
    except ValueError:
        return {}
    if not isinstance(given, dict):
        return {}
    details: dict[str, Any] = {name: str(given[name])[:_LONGEST_VALUE] for name in _OPTIONS_OF_A_SEND if name in given}
    if isinstance(kwargs := given.get("kwargs"), dict):
        details["kwargs"] = sorted(kwargs)
    if isinstance(args := given.get("args"), list):
        details["args"] = len(args)
    return details
