"""Task classes of plain Celery: `@app.task(base=...)`, `app.register_task(...)`, `app.Task = ...`."""

from __future__ import annotations

from typing import Any

from celery import Task

from cgk_tasks.celery_tasks.task import TenantTask


def tenant_class(base: type[Task[Any, Any]]) -> type[TenantTask]:
    """The class itself if it is one of ours; else one of the same name that also is, so that its runs are on record."""
    if issubclass(base, TenantTask):
        return base
    named: Any = base  # a task's own `__name__` is one of an object
    attributes = {"__module__": base.__module__, "__doc__": base.__doc__}
    made: type[TenantTask] = type(named.__name__, (base, TenantTask), attributes)
    return made
