"""Functions that are called at the same time, in threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from cgk_tasks.errors import StepFailedError
from cgk_tasks.workflows.suspension import WorkflowSuspended


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls return, in their order, when all of them have ended. Each has the context variables of this place.

    Raises the first error: StepFailedError only when no step is to be tried again, which WorkflowSuspended says.
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
    for error in sorted(errors, key=_order):
        raise error
    return [future.result() for future in futures]


def _order(error: BaseException) -> int:
    return 2 if isinstance(error, StepFailedError) else 1 if isinstance(error, WorkflowSuspended) else 0
