"""What a Django project uses: the backend for Django's Tasks framework, which makes its tasks durable runs of a tenant;
and sends in Django's transactions.

    TASKS = {"default": {"BACKEND": "cgk_tasks.django.TasksBackend"}}

Its names are imported when they are asked for, so that nothing else needs Django.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cgk_tasks.django.backend import TasksBackend
    from cgk_tasks.django.transactions import sends_in_transaction

__all__ = ["TasksBackend", "sends_in_transaction"]

_HOMES: Final = {"TasksBackend": "backend", "sends_in_transaction": "transactions"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
