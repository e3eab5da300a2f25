"""Tasks and jobs: one Celery task per event, `@define_job`, and the run of an attempt.

`from cgk_tasks.tasks import order_created` gives the task of the event `order.created`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgk_tasks.tasks.catalog import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(import_module("cgk_tasks.tasks.catalog"), name)
