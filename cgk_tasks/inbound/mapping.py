"""From a delivery to what is sent: the function of its source is called, and what it returns is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from cgk_tasks.client import SendItem
from cgk_tasks.errors import CgkTasksError, RequestRefusedError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import parse_event
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.inbound.sources import Mapped, WebhookDelivery, WebhookSource, check_event
from cgk_tasks.runs.text import where_of

log = structlog.get_logger("cgk_tasks.gateway")


def tenant_of(source: WebhookSource, delivery: WebhookDelivery) -> str | None:
    """Whose delivery it is; None if it is to be ignored. Raises RequestRefusedError, 422."""
    if not callable(source.tenant):
        return delivery.tenant_id
    try:
        found = source.tenant(delivery)
        if found is None or isinstance(found, str):
            return found
        raise TypeError(f"tenant must be a text or None, not {type(found).__name__}")
    except Exception as exc:  # noqa: BLE001 - an application's function may raise anything
        raise _not_mapped(source, exc) from None


def items_of(source: WebhookSource, delivery: WebhookDelivery, tenant_id: str) -> list[SendItem]:
    """What the delivery becomes, each with its idempotency key; nothing if it is to be ignored.

    Raises RequestRefusedError, 422, whatever is wrong. The log says what and where, and nothing of the delivery.
    """
    try:
        events = [_event(source, one, tenant_id) for one in _several(source.handler(delivery))]
    except Exception as exc:  # noqa: BLE001 - an application's function may raise anything
        raise _not_mapped(source, exc) from None
    key = f"webhook:{source.name}:{delivery.id}"
    keys = [key] if len(events) == 1 else [f"{key}/{position}" for position in range(len(events))]
    return [SendItem(event, None, SendOptions(idempotency_key=one)) for event, one in zip(events, keys, strict=True)]


def _several(mapped: Mapped) -> list[Any]:
    if mapped is None:
        return []
    return [mapped] if isinstance(mapped, Mapping | TenantEvent) else list(mapped)


def _event(source: WebhookSource, one: Any, tenant_id: str) -> TenantEvent:
    if isinstance(one, TenantEvent):
        made = one
    elif not isinstance(one, Mapping):
        raise TypeError(f"an event must be a model or a payload, not {type(one).__name__}")
    elif source.event is None:
        raise TypeError("a payload was returned, and the source names no event")
    else:
        made = parse_event(source.event, {"tenantId": tenant_id, **one})
    if made.tenant_id != tenant_id:
        raise ValueError("an event of another tenant than the delivery's")
    check_event(source.name, type(made))
    return made


def _not_mapped(source: WebhookSource, exc: Exception) -> RequestRefusedError:
    code = exc.code if isinstance(exc, CgkTasksError) else None
    log.error("webhook_not_mapped", source=source.name, error=type(exc).__qualname__, code=code, where=where_of(exc))
    return RequestRefusedError(
        "This delivery could not be made an event.", "WEBHOOK_NOT_MAPPED", 422,
        hint="Nothing was sent. The gateway's log says where it failed.",
    )  # fmt: skip
