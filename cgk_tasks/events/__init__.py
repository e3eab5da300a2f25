"""Typed events: their base, their fields and their registry; and by name those of the catalog in charge.

    from cgk_tasks.events import OrderCreated, TenantEvent

Nothing here needs Celery, SQLAlchemy or Redis: an application can import the types alone.
"""

from typing import Any

from cgk_tasks.events.base import TenantEvent as TenantEvent
from cgk_tasks.events.base import WireModel as WireModel
from cgk_tasks.events.base import searchable_fields as searchable_fields
from cgk_tasks.events.base import sensitive_fields as sensitive_fields
from cgk_tasks.events.base import validate_tenant_id as validate_tenant_id
from cgk_tasks.events.catalog import catalog
from cgk_tasks.events.fields import JsonArray as JsonArray
from cgk_tasks.events.fields import JsonObject as JsonObject
from cgk_tasks.events.fields import Money as Money
from cgk_tasks.events.fields import Searchable as Searchable
from cgk_tasks.events.fields import Sensitive as Sensitive
from cgk_tasks.events.fields import Timestamp as Timestamp
from cgk_tasks.events.naming import class_name as class_name
from cgk_tasks.events.naming import task_attribute as task_attribute
from cgk_tasks.events.own_events import OnDemand as OnDemand
from cgk_tasks.events.registry import get_event as get_event
from cgk_tasks.events.registry import parse_event as parse_event
from cgk_tasks.events.registry import parse_event_json as parse_event_json

_OF_THE_REGISTRY = ("ALIASES", "EVENT_CATEGORIES", "TOTAL_EVENT_COUNT")
_MECHANISM = (
    "JsonArray",
    "JsonObject",
    "Money",
    "OnDemand",
    "Searchable",
    "Sensitive",
    "TenantEvent",
    "Timestamp",
    "WireModel",
    "class_name",
    "get_event",
    "parse_event",
    "parse_event_json",
    "searchable_fields",
    "sensitive_fields",
    "task_attribute",
    "validate_tenant_id",
)


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in _OF_THE_REGISTRY:
        from cgk_tasks.events import registry

        return getattr(registry, name)
    module = None if name.startswith("_") else catalog()
    if module is None or name not in getattr(module, "__all__", vars(module)):
        raise AttributeError(f"module 'cgk_tasks.events' has no attribute {name!r}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*_MECHANISM, *_OF_THE_REGISTRY, *getattr(catalog(), "__all__", ())})
