"""Finding events by name, and turning payloads into them."""

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Final

from pydantic import ValidationError

from cgk_tasks.errors import PayloadInvalidError, UnknownEventError
from cgk_tasks.events import (
    ab_testing,
    analytics,
    attribution,
    brand_context,
    commerce,
    creators,
    google_feed,
    media,
    notifications,
    payouts,
    recovery,
    reviews,
    subscriptions,
    system,
    webhooks,
    workflows,
)
from cgk_tasks.events.base import EVENTS_BY_NAME, TenantEvent
from cgk_tasks.events.problems import payload_error
from cgk_tasks.nearest import nearest

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "review.reminder.scheduled": "review.reminder",
        "video.upload.completed": "video.uploadCompleted",
        "video.transcription.started": "video.transcriptionStarted",
        "video.transcription.completed": "video.transcriptionCompleted",
        "video.ai.generated": "video.aiGenerated",
        "dam.asset.uploaded": "dam.assetUploaded",
        "dam.gdrive.sync.requested": "dam.gdriveSync",
        "dam.rights.expiry.check": "dam.rightsExpiry",
        "dam.export.requested": "dam.export",
    }
)
"""Second spellings that senders use, each with the event's own name."""

_CATALOG: Final = (
    commerce,
    reviews,
    creators,
    payouts,
    attribution,
    ab_testing,
    media,
    subscriptions,
    notifications,
    system,
    workflows,
    brand_context,
    google_feed,
    webhooks,
    recovery,
    analytics,
)


def _events_of(module: ModuleType) -> list[type[TenantEvent]]:
    return [event for event in EVENTS_BY_NAME.values() if event.__module__ == module.__name__]


def _by_category() -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for module in _CATALOG:
        for event in _events_of(module):
            names.setdefault(event.category, []).append(event.event_name)
    return {category: tuple(events) for category, events in names.items()}


EVENT_CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(_by_category())
"""The names of the catalog's events by category. An application's own events are not in it."""

TOTAL_EVENT_COUNT: Final = sum(len(events) for events in EVENT_CATEGORIES.values())
"""How many events the catalog has."""


def get_event(name: str) -> type[TenantEvent]:
    """The model of the event called `name`, which may be a second spelling.

    Raises UnknownEventError, with the nearest known name, if there is no such event.
    """
    event = EVENTS_BY_NAME.get(ALIASES.get(name, name))
    if event is None:
        raise UnknownEventError(name, nearest(name, [*EVENTS_BY_NAME, *ALIASES]))
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
        return event.model_validate(payload)
    except ValidationError as error:
        raise payload_error(event, error) from None


def parse_event_json(name: str, data: bytes | str) -> TenantEvent:
    """Validate JSON text as the event called `name`. Raises what `parse_event` raises."""
    event = get_event(name)
    try:
        return event.model_validate_json(data)
    except ValidationError as error:
        raise payload_error(event, error) from None


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
