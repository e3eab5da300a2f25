# ruff: noqa: F403
from cgk_tasks.catalog import *
from cgk_tasks.catalog.names import JobEvent as JobEvent
from cgk_tasks.catalog.names import JobPayload as JobPayload
from cgk_tasks.events.base import TenantEvent as TenantEvent
from cgk_tasks.events.base import WireModel as WireModel
from cgk_tasks.events.base import searchable_fields as searchable_fields
from cgk_tasks.events.base import sensitive_fields as sensitive_fields
from cgk_tasks.events.base import validate_tenant_id as validate_tenant_id
from cgk_tasks.events.fields import JsonArray as JsonArray
from cgk_tasks.events.fields import JsonObject as JsonObject
from cgk_tasks.events.fields import Money as Money
from cgk_tasks.events.fields import Searchable as Searchable
from cgk_tasks.events.fields import Sensitive as Sensitive
from cgk_tasks.events.fields import Timestamp as Timestamp
from cgk_tasks.events.naming import class_name as class_name
from cgk_tasks.events.naming import task_attribute as task_attribute
from cgk_tasks.events.own_events import OnDemand as OnDemand
from cgk_tasks.events.registry import ALIASES as ALIASES
from cgk_tasks.events.registry import EVENT_CATEGORIES as EVENT_CATEGORIES
from cgk_tasks.events.registry import TOTAL_EVENT_COUNT as TOTAL_EVENT_COUNT
from cgk_tasks.events.registry import get_event as get_event
from cgk_tasks.events.registry import parse_event as parse_event
from cgk_tasks.events.registry import parse_event_json as parse_event_json
