"""One Celery task per event, by the event's name in Python: `order_created.delay(tenant_id=..., order_id=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cgk_tasks.events.naming import task_attribute
from cgk_tasks.events.registry import EVENT_CATEGORIES

if TYPE_CHECKING:
    from cgk_tasks.celery_tasks.task import EventTask

__path__: list[str] = []  # the modules that were in here have moved: see cgk_tasks/moved.py

_NAMES = {task_attribute(event): event for events in EVENT_CATEGORIES.values() for event in events}


def __getattr__(name: str) -> EventTask:
    event = _NAMES.get(name)
    if event is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import cgk_tasks

    task: Any = cgk_tasks.app.tasks[event]
    return task  # type: ignore[no-any-return]


def __dir__() -> list[str]:
    return sorted(_NAMES)


__all__ = sorted(_NAMES)  # noqa: PLE0605
