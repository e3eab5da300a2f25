"""The OpenAPI 3.1 document of the API: a path for each event, with the schema of its payload as its model has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from cgk_tasks.api_keys.scopes import SEND
from cgk_tasks.events.base import INTERNAL, TenantEvent
from cgk_tasks.events.registry import all_events
from cgk_tasks.gateway.bodies import JSON
from cgk_tasks.gateway.description_parts import ANSWERS, PARAMETERS, PATHS, SCHEMAS
from cgk_tasks.gateway.endpoint import Call
from cgk_tasks.gateway.json_text import to_text

_REF: Final = "#/components/schemas/{model}"
_LONGEST_SUMMARY: Final = 120


async def show_description(call: Call) -> Response:
    """GET /v1/openapi.json."""
    call.query()
    return Response(await call.do(_text), media_type=JSON)


def _text() -> bytes:
    """Made once, and anew when the application has defined further events."""
    return _text_of(tuple(all_events()))


@lru_cache(maxsize=1)
def _text_of(events: Sequence[type[TenantEvent]]) -> bytes:
    return to_text(openapi(events))


def openapi(events: Sequence[type[TenantEvent]] | None = None) -> dict[str, Any]:
    """The document, of all events that are known here or of these."""
    from cgk_tasks import __version__

    known = (event for event in (all_events() if events is None else events) if event.category != INTERNAL)
    described = sorted(known, key=lambda event: event.event_name)
    refs, definitions = models_json_schema(
        [(event, "validation") for event in described], by_alias=True, ref_template=_REF
    )
    schemas = definitions.get("$defs", {})
    sends = {f"/v1/events/{event.event_name}": {"post": _send(event, refs[event, "validation"])} for event in described}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cgk-tasks",
            "version": __version__,
            "description": "Send events, and read and operate the runs that they make. Every key is one tenant's.",
        },
        "security": [{"key": []}],
        "paths": sends | PATHS,
        "components": {
            "schemas": schemas | SCHEMAS,
            "responses": ANSWERS,
            "parameters": PARAMETERS,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "browserToken": {"type": "apiKey", "in": "query", "name": "token"},
            },
        },
    }


def _send(event: type[TenantEvent], schema: Mapping[str, Any]) -> dict[str, Any]:
    summary = " ".join((event.__doc__ or event.event_name).strip().partition("\n\n")[0].split())
    return {
        "operationId": f"send_{event.event_name.replace('.', '_')}",
        "tags": [event.category],
        "summary": summary[:_LONGEST_SUMMARY],
        "description": f"Takes a key with the scope `{SEND}{event.event_name}`, or one whose pattern has it.",
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS],
        "requestBody": {"required": True, "content": {JSON: {"schema": dict(schema)}}},
        "responses": {
            "202": {"$ref": "#/components/responses/Sent"},
            "200": {"$ref": "#/components/responses/Sent"},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
