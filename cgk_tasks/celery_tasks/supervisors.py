"""Which supervisor watches over the workers of an app in this process."""

from __future__ import annotations

from celery import Celery

from cgk_tasks.worker.supervisor import Supervisor

_supervisors: dict[int, Supervisor] = {}


def supervisor_of(app: Celery) -> Supervisor | None:
    """The supervisor of the worker that this process is the main process of."""
    return _supervisors.get(id(app))


def set_supervisor(app: Celery, supervisor: Supervisor | None) -> None:
    if supervisor is None:
        _supervisors.pop(id(app), None)
    else:
        _supervisors[id(app)] = supervisor
