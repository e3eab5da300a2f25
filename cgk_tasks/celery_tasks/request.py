"""Celery's request for a run: what a task sees as `self.request`, links, chain and group included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, cast

from celery.app.task import Context
from celery.utils.saferepr import saferepr

from cgk_tasks.celery_tasks.priorities import celery_priority
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.store import Claimed

_LONGEST_TEXT = 1024
"""Celery's own limit for the arguments in a message's headers."""

_NO_WAIT = timedelta(milliseconds=10)
"""A run that is due at once has two clocks: its sender's and PostgreSQL's."""


FindMessage = Callable[[], Context | None]


class RunRequest(Context):
    """What is the same for nearly all runs is said once, here, and what few tasks ask for is made when they do."""

    __slots__ = ("_find_message", "_is_redelivered", "_run")

    called_directly = False
    timelimit = (None, None)
    utc = True

    def __init__(self, run: Claimed, find_message: FindMessage, *, is_redelivered: bool, **known: Any) -> None:
        self._run, self._find_message, self._is_redelivered = run, find_message, is_redelivered
        self.__dict__.update(known)

    @cached_property
    def _message(self) -> Context | None:
        return self._find_message()

    @cached_property
    def argsrepr(self) -> str:
        """The arguments as text, shortened."""
        return str(saferepr(self.args or (), _LONGEST_TEXT))

    @cached_property
    def kwargsrepr(self) -> str:
        """As `argsrepr`."""
        return str(saferepr(self.kwargs or {}, _LONGEST_TEXT))

    @cached_property
    def hostname(self) -> str | None:  # type: ignore[override]
        return None if self._message is None else self._message.hostname

    @cached_property
    def origin(self) -> str | None:
        """The process that put the message into the broker: the sender, or the worker that dispatched it."""
        return None if self._message is None else self._message.origin

    @cached_property
    def properties(self) -> dict[str, Any] | None:  # type: ignore[override] # an assignment replaces it
        if self._message is None:
            return None
        return {**(self._message.properties or {}), "correlation_id": self.id, "reply_to": None}

    @cached_property
    def delivery_info(self) -> dict[str, Any]:  # type: ignore[override]
        said = {
            "exchange": "",
            "routing_key": self._run.queue,
            "priority": celery_priority(self._run.priority),
            "is_eager": False,
        }
        if self._message is not None:
            said["redelivered"] = self._is_redelivered or (self._message.delivery_info or {}).get("redelivered")
        return said

    def __repr__(self) -> str:
        lazy = {name: getattr(self, name) for name in ("hostname", "origin", "properties", "delivery_info")}
        return f"<Context: {vars(self) | lazy}>"


def request_of(
    run: Claimed,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str,
    find_message: FindMessage = lambda: None,
    *,
    is_redelivered: bool = False,
) -> RunRequest:
    """The request of a run of the task called `name`.

    find_message: gives the request of the message that brought the run to this worker, others perhaps with it.
    is_redelivered: what the record knows of that, whatever brought it now.
    """
    request = RunRequest(
        run,
        find_message,
        is_redelivered=is_redelivered,
        id=run.id,
        correlation_id=run.id,
        task=name,
        args=list(args),
        kwargs=dict(kwargs),
        retries=run.attempt - run.deaths - 1,
        root_id=run.id,
        headers={},
        stamps={},
    )
    if run.run_at - run.created_at > _NO_WAIT:
        vars(request)["eta"] = run.run_at.isoformat()
    if run.expires_at is not None:
        vars(request)["expires"] = run.expires_at.isoformat()
    if run.sealed_canvas is not None:
        _take_part(request, typed_json.read(cast("str", run.canvas)))
    return request


def _take_part(request: Context, kept: Mapping[str, Any]) -> None:
    """What a signature said of its place in a canvas."""
    request.id = kept.get("task_id") or request.id
    request.root_id = kept.get("root_id") or request.id
    request.parent_id = kept.get("parent_id")
    request.callbacks = kept.get("link")
    request.errbacks = kept.get("link_error")
    request.chain = kept.get("chain")
    request.chord = kept.get("chord")
    request.group = kept.get("group_id")
    request.group_index = kept.get("group_index")
    request.headers = kept.get("headers") or {}
    for name, value in request.headers.items():
        vars(request).setdefault(name, value)  # as Celery has them: `request.headers["trace"]` and `request.trace`
    request.stamped_headers = kept.get("stamped_headers")
    request.stamps = kept.get("stamps") or {}
    vars(request).update(time_limit=kept.get("time_limit"), soft_time_limit=kept.get("soft_time_limit"))
    if "priority" in kept:
        request.delivery_info = {**(request.delivery_info or {}), "priority": kept["priority"]}
    request.replaced_task_nesting = kept.get("replaced_task_nesting", 0)
    vars(request)["errback"] = kept.get("errback", False)
