"""Sending by HTTP: one event, or many, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from cgk_tasks.api_keys.scopes import require_send
from cgk_tasks.client import SendItem, get_job_client
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import CgkTasksError, PayloadInvalidError, RequestRefusedError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import event_name, get_event, parse_event_json
from cgk_tasks.flow.new_run import NO_OPTIONS, SendOptions
from cgk_tasks.gateway import idempotency
from cgk_tasks.gateway.bodies import NDJSON, media_type, read_json
from cgk_tasks.gateway.endpoint import Call, answer, bad_request, moment_of
from cgk_tasks.gateway.idempotency import Answer
from cgk_tasks.gateway.json_text import parsed
from cgk_tasks.gateway.lines import send_lines
from cgk_tasks.runs.models import RunHandle

OPTIONS: Final = ("delay", "runAt", "expires", "maxAttempts", "priority")
"""How an event may be sent, as parameters of the request or as `options` of one of many."""

MOST_ITEMS: Final = 10_000
"""In one request that is all or nothing."""


async def send_one(call: Call) -> Response:
    """POST /v1/events/{event}: the body is the payload in wire form."""
    name, given = call.path("event"), call.query(*OPTIONS)
    require_send(call.key.scopes, event_name(name))
    key = idempotency.key_of(call)
    options = _read(given)
    body = await read_json(call.request)
    value, status = await call.do(_send_one, call, name, body, options, key)
    return answer(value, status, _location(call, name, value))


def _send_one(call: Call, name: str, body: bytes, options: dict[str, Any], key: str | None) -> Answer:
    call.refuse_suspended()
    payload = parsed(body)
    event = event_of(call, name, payload, body)

    def send() -> Answer:
        handle = get_job_client().send(event, idempotency_key=key, **options)
        return shown(handle), 200 if handle.deduplicated else 202

    return idempotency.once(call, key, payload, send)


async def send_many(call: Call) -> Response:
    """POST /v1/events: an array of items, all or nothing; or NDJSON, chunk by chunk."""
    call.query()
    key = idempotency.key_of(call)
    if media_type(call.request) == NDJSON:
        return send_lines(call, item_of, key)
    body = await read_json(call.request)
    return answer(*await call.do(_send_many, call, body, key))


def _send_many(call: Call, body: bytes, key: str | None) -> Answer:
    call.refuse_suspended()
    items = parsed(body)
    if not isinstance(items, list) or not 0 < len(items) <= MOST_ITEMS:
        raise bad_request(
            f"The body must be an array of 1 to {MOST_ITEMS:,} items.", f"More go as {NDJSON}, one item a line."
        )
    sends = []
    for position, item in enumerate(items):
        try:
            sends.append(item_of(call, item, None if key is None else f"{key}/{position}"))
        except CgkTasksError as exc:
            exc.item = position
            raise
    return idempotency.once(call, key, items, lambda: (_all(sends), 202))


def _all(sends: list[SendItem]) -> dict[str, Any]:
    return {"runs": [shown(handle) for handle in get_job_client().send_batch(sends)]}


def item_of(call: Call, item: Any, key: str | None) -> SendItem:
    """One of many, checked. Raises what is wrong with it."""
    if not isinstance(item, dict):
        raise bad_request('An item must be an object, like {"event": "order.created", "payload": {...}}.')
    known = ("event", "payload", "options")
    if unknown := next((name for name in item if name not in known), None):
        raise bad_request(
            f"An item has no {unknown[:50]!r}.", f"There are: {', '.join(known)}." + did_you_mean(unknown[:50], known)
        )
    name, options = item.get("event"), item.get("options", {})
    if not isinstance(name, str) or not isinstance(options, dict):
        raise bad_request("An item needs the name of an event as text, and its options are an object.")
    require_send(call.key.scopes, event_name(name))
    own = options.get("idempotencyKey")
    wanted = _options(_read({option: options[option] for option in options if option != "idempotencyKey"}), own or key)
    payload = item.get("payload", {})
    return SendItem(event_of(call, name, payload, json.dumps(payload).encode()), None, wanted)


def event_of(call: Call, name: str, payload: Any, text: bytes) -> TenantEvent:
    """The event, of the key's tenant. Raises UnknownEventError, PayloadInvalidError, and RequestRefusedError, 403."""
    event = get_event(name)
    if not isinstance(payload, dict):
        raise PayloadInvalidError(event.event_name, ["it must be an object with named fields"])
    made = parse_event_json(name, text)
    if made.tenant_id != call.tenant.id:
        raise RequestRefusedError(
            f"This key is one of tenant {call.tenant.id!r}, and the payload of another.", "FORBIDDEN", 403,
            hint="Give its tenant as tenantId, or use a key of that one.",
        )  # fmt: skip
    return made


def shown(handle: RunHandle) -> dict[str, str]:
    return {"id": handle.id, "outcome": handle.outcome}


def _location(call: Call, name: str, sent: Mapping[str, Any]) -> dict[str, str]:
    """Where the run is, if there is one on record."""
    if sent["outcome"] == "skipped" or not get_event(name).durable:
        return {}
    return {"Location": f"{call.request.scope.get('root_path', '')}/v1/runs/{sent['id']}"}


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options by their own names: numbers may be texts, as parameters have them. Raises RequestRefusedError."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name == "delay":
            found["delay"] = _number(name, value)
        elif name == "runAt":
            found["run_at"] = moment_of(name, value)
        elif name == "expires":
            found["expires"] = moment_of(name, value) if _is_time(value) else _number(name, value)
        elif name == "maxAttempts":
            found["max_attempts"] = _whole(name, value)
        elif name == "priority":
            found["priority"] = _whole(name, value)
        else:
            there_are = f"There are: {', '.join(OPTIONS)}."
            raise bad_request(f"There is no option {name[:50]!r}.", there_are + did_you_mean(name[:50], OPTIONS))
    return found


def _options(read: dict[str, Any], key: Any) -> SendOptions:
    if key is None and not read:
        return NO_OPTIONS
    return SendOptions(**read, idempotency_key=key)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and "T" in value


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise bad_request(f"The option {name} must be a number of seconds.")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise bad_request(f"The option {name} must be a whole number.")
