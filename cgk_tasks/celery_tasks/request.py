"""Celery's request for a run: what a task sees as `self.request`, links, chain and group included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from celery.app.task import Context

from cgk_tasks.celery_tasks.priorities import celery_priority
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.store import Claimed


class RunRequest(Context):
    """What is the same for nearly all runs is said once, here."""

    called_directly = False
    timelimit = (None, None)
    utc = True

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)


def request_of(run: Claimed, args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> Context:
    """The request of a run of the task called `name`."""
    request = RunRequest(
        id=run.id,
        correlation_id=run.id,
        task=name,
        args=list(args),
        kwargs=dict(kwargs),
        retries=run.attempt - run.deaths - 1,
        root_id=run.id,
        headers={},
        stamps={},
        delivery_info={
            "exchange": "",
            "routing_key": run.queue,
            "priority": celery_priority(run.priority),
            "is_eager": False,
        },
    )
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
    request.replaced_task_nesting = kept.get("replaced_task_nesting", 0)
    vars(request)["errback"] = kept.get("errback", False)
