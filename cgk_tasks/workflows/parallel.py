"""Functions that are called at the same time, in threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from cgk_tasks.workflows.suspension import WorkflowSuspended


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls return, in their order, when all of them have ended. Each has the context variables of this place.

    Raises the first error; WorkflowSuspended only where nothing else is raised.
    """
    if not calls:
        return []
    pool = ThreadPoolExecutor(len(calls), thread_name_prefix="cgk-parallel")
    try:
        futures: list[Future[Any]] = [pool.submit(copy_context().run, call) for call in calls]
        wait(futures)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda one: isinstance(one, WorkflowSuspended)):
        raise error
    return [future.result() for future in futures]
