"""Finding events by name, and turning payloads into them."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cgk_tasks.config.nearest import nearest
from cgk_tasks.errors import PayloadInvalidError, UnknownEventError
from cgk_tasks.events.base import EVENTS_BY_NAME, TenantEvent, all_registered, names_of_registered, registered
from cgk_tasks.events.catalog import catalog
from cgk_tasks.events.own_events import on_demand_event
from cgk_tasks.events.problems import payload_error

ALIASES: Mapping[str, str]
"""Second spellings that senders use, each with the event's own name."""

EVENT_CATEGORIES: Mapping[str, tuple[str, ...]]
"""The names of the catalog's events by category. An application's own events are not in it."""

TOTAL_EVENT_COUNT: int
"""How many events the catalog has."""


def __getattr__(name: str) -> Any:
    """What the catalog says is found out when it is first asked for."""
    if name == "ALIASES":
        value: Any = MappingProxyType(dict(getattr(catalog(), "ALIASES", {})))
    elif name == "EVENT_CATEGORIES":
        value = MappingProxyType(_by_category())
    elif name == "TOTAL_EVENT_COUNT":
        value = sum(len(events) for events in _by_category().values())
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _by_category() -> dict[str, tuple[str, ...]]:
    module = catalog()
    if module is None:
        return {}
    names: dict[str, list[str]] = {category: [] for category in getattr(module, "CATEGORY_ORDER", ())}
    for event in all_registered():
        if f"{event.__module__}.".startswith(f"{module.__name__}."):
            names.setdefault(event.category, []).append(event.event_name)
    return {category: tuple(events) for category, events in names.items() if events}


def event_name(name: str) -> str:
    """The event's own name, if `name` is a second spelling of it."""
    aliases: Mapping[str, str] = getattr(catalog(), "ALIASES", {})
    return aliases.get(name, name)


def all_events() -> list[type[TenantEvent]]:
    """Every registered event: the catalog's, and those that the application has defined so far."""
    catalog()
    return all_registered()


def event_names() -> list[str]:
    """The names of all events, none of which is imported for this."""
    catalog()
    return names_of_registered()


def find_event(name: str) -> type[TenantEvent] | None:
    """The model of the event called `name`; None if there is no such event."""
    event = EVENTS_BY_NAME.get(name)
    if event is None:
        event = registered(event_name(name)) or on_demand_event(name)  # event_name has imported the catalog
    if event is None and name == "django.task":
        from cgk_tasks.events.django_task import DjangoTask  # few processes have such runs, or show them

        return DjangoTask
    return event


def get_event(name: str) -> type[TenantEvent]:
    """The model of the event called `name`, which may be a second spelling.

    Raises UnknownEventError, with the nearest known name, if there is no such event.
    """
    event = find_event(name)
    if event is None:
        raise UnknownEventError(name, nearest(name, [*event_names(), *getattr(catalog(), "ALIASES", ())]))
    return event


def parse_event(name: str, payload: Mapping[str, Any] | TenantEvent) -> TenantEvent:
    """Validate `payload` as the event called `name`. Keys may be camelCase or snake_case.

    Raises UnknownEventError, TenantMissingError, InvalidTenantError, or PayloadInvalidError with a line for each
    fault of the payload.
    """
    event = get_event(name)
    # A plain dict is by far the most frequent; asking it first spares it two slow isinstance checks.
    if type(payload) is not dict:
        if isinstance(payload, TenantEvent):
            return _of_type(event, payload)
        payload = _fields_of(event, payload)
    try:
        # As `model_validate`, which looks at options first that nobody gives here.
        parsed: TenantEvent = event.__pydantic_validator__.validate_python(payload)
    except ValidationError as error:
        raise payload_error(event, error) from None
    return parsed


def parse_event_json(name: str, data: bytes | str) -> TenantEvent:
    """Validate JSON text as the event called `name`. Raises what `parse_event` raises."""
    event = get_event(name)
    try:
        return event.model_validate_json(data)
    except ValidationError as error:
        raise payload_error(event, error) from None


def parse_events_json(name: str, data: bytes | str) -> list[TenantEvent]:
    """The same for a list of events, as a run of a Batch has it; and for one alone."""
    if data[:1] not in {"[", b"["}:
        return [parse_event_json(name, data)]
    event = get_event(name)
    try:
        return _list_of(event).validate_json(data)
    except ValidationError as error:
        raise payload_error(event, error) from None


@cache
def _list_of(event: type[TenantEvent]) -> TypeAdapter[list[TenantEvent]]:
    return TypeAdapter(list[event])  # type: ignore[valid-type]  # it is a type


def _of_type(event: type[TenantEvent], payload: TenantEvent) -> TenantEvent:
    if isinstance(payload, event):
        return payload
    sent = f"{type(payload).__name__} ({payload.event_name})"
    raise PayloadInvalidError(event.event_name, [f"it must be {event.__name__}, not {sent}"])


def _fields_of(event: type[TenantEvent], payload: object) -> dict[str, Any]:
    if isinstance(payload, Mapping):
        return dict(payload)
    raise PayloadInvalidError(
        event.event_name, [f"it must be an object with named fields, not {type(payload).__name__}"]
    )
