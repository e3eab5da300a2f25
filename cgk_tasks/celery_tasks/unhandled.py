"""Runs of events and tasks that this worker does not know: they take the way of all runs, to their end on record.

The consumer gives their packets to this task. It has no job for them, so the pipeline holds them for a worker that has
one, or closes them as unhandled.
"""

from __future__ import annotations

from typing import Any, ClassVar

from cgk_tasks.celery_tasks.adapter import UNHANDLED
from cgk_tasks.celery_tasks.task import TenantTask
from cgk_tasks.errors import CgkTasksError


class UnhandledTask(TenantTask):
    """Executes nothing."""

    name = UNHANDLED
    is_adapted: ClassVar[bool] = False
    ignore_result = True

    def run(self, *_args: Any, **_kwargs: Any) -> Any:
        raise CgkTasksError(f"The task {UNHANDLED} is for the worker's own use.")
