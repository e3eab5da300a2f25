"""For which tenants an entry of django-celery-beat or of `beat_schedule` is sent."""

from __future__ import annotations

import inspect
from typing import Any, Final

from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.config import get_settings
from cgk_tasks.events.registry import find_event
from cgk_tasks.tenancy.registry import active_tenants

EVERY_TENANT: Final = "*"
_ARGUMENTS: Final = ("tenant_id", "tenantId")


def for_tenants(entry: Any) -> list[Any]:
    """The entry once for each of its tenants: that of its headers, of its arguments, or of CGK_PERIODIC_TASKS_TENANT.

    As it is where none of them names one: sending it says so.
    """
    tenant = (entry.options.get("headers") or {}).get(TENANT_HEADER)
    if tenant is None:
        tenant = entry.kwargs.get("tenant_id") or entry.kwargs.get("tenantId") or get_settings().periodic_tasks_tenant
    if tenant is None:
        return [entry]
    tenants = [one.id for one in active_tenants()] if tenant == EVERY_TENANT else [tenant]
    return [_for_tenant(entry, one) for one in tenants]


def _for_tenant(entry: Any, tenant_id: str) -> Any:
    own = object.__new__(type(entry))  # it says of itself that it copies like Celery's, and does not
    vars(own).update(vars(entry))
    own.options = {**entry.options, "headers": {**(entry.options.get("headers") or {}), TENANT_HEADER: tenant_id}}
    own.kwargs = {name: value for name, value in entry.kwargs.items() if name not in _ARGUMENTS}
    if find_event(entry.task) is not None:
        own.kwargs["tenantId"] = tenant_id
    else:
        taken = _arguments_of(entry.app.tasks.get(entry.task))
        own.kwargs |= {
            name: tenant_id for name in _ARGUMENTS if name in entry.kwargs and (taken is None or name in taken)
        }
    return own


def _arguments_of(task: Any) -> set[str] | None:
    """The arguments that a task takes by name; None for one that takes any, or that is not known here."""
    if task is None:
        return None
    arguments = inspect.signature(task.run).parameters.values()
    return None if any(one.kind is one.VAR_KEYWORD for one in arguments) else {one.name for one in arguments}
