"""For which tenants an entry of django-celery-beat or of `beat_schedule` is sent."""

from __future__ import annotations

import copy
from typing import Any, Final

from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.config import get_settings
from cgk_tasks.events.registry import find_event
from cgk_tasks.tenancy.registry import active_tenants

EVERY_TENANT: Final = "*"


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
    own = copy.copy(entry)
    own.options = {**entry.options, "headers": {**(entry.options.get("headers") or {}), TENANT_HEADER: tenant_id}}
    own.kwargs = {name: tenant_id if value == EVERY_TENANT and name in {"tenant_id", "tenantId"} else value
                  for name, value in entry.kwargs.items()}  # fmt: skip
    if find_event(entry.task) is not None and "tenant_id" not in own.kwargs:
        own.kwargs["tenantId"] = tenant_id
    return own
