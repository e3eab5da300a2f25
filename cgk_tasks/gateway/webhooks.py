"""Receiving webhooks: `/v1/webhooks/{source}`, where the sender's signature stands in place of a key."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import Any, Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cgk_tasks.client import get_job_client
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    CgkTasksError,
    ConfigurationError,
    IdempotencyConflictError,
    RequestRefusedError,
    TenantError,
)
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.gateway import problems
from cgk_tasks.gateway.bodies import JSON, read_any
from cgk_tasks.gateway.endpoint import HEADERS, answer
from cgk_tasks.gateway.idempotency import Answer
from cgk_tasks.gateway.json_text import parsed
from cgk_tasks.gateway.request_rate import take_place
from cgk_tasks.inbound.counts import COUNTS, Outcome
from cgk_tasks.inbound.mapping import items_of, tenant_of
from cgk_tasks.inbound.schemes import SCHEMES, delivery_id
from cgk_tasks.inbound.signed_request import SignedRequest, refused
from cgk_tasks.inbound.sources import WebhookDelivery, WebhookSource, find_source
from cgk_tasks.runs.models import RunHandle
from cgk_tasks.runs.text import where_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.tenancy import registry, tenant_context
from cgk_tasks.tenancy.audit import acting_as
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.platform import is_platform

log = structlog.get_logger("cgk_tasks.gateway")

_OUTCOMES: Final[dict[str, Outcome]] = {"BAD_SIGNATURE": "refused", "WEBHOOK_NOT_MAPPED": "unmapped"}
"""What a delivery is counted as that was refused with this code; all others as failed."""


async def receive(request: Request) -> Response:
    """POST and GET /v1/webhooks/{source} and /v1/webhooks/{source}/{tenant}."""
    begun = time.monotonic()
    source: WebhookSource | None = None
    try:
        source = _source(request)
        value, status = await _received(request, source)
        outcome, made = value["outcome"], answer(value, status)
    except ClientDisconnect:
        return Response(status_code=400)  # which nobody reads
    except Exception as exc:  # noqa: BLE001 - whatever it is has an answer
        error = problems.as_error(exc)
        outcome, made = _OUTCOMES.get(error.code, "failed"), problems.response(error)
        del made.headers["WWW-Authenticate"]  # where it is there: it is no key that is missing
    made.headers.update(HEADERS)
    name = None if source is None else source.name
    if name is not None:
        await run_in_threadpool(COUNTS.current().note, name, outcome)
    log.info(
        "webhook", source=name, outcome=outcome, status=made.status_code, seconds=round(time.monotonic() - begun, 4)
    )
    return made


def _source(request: Request) -> WebhookSource:
    """The source in the path. Raises RequestRefusedError: 404, 405."""
    source = find_source(request.path_params["source"])
    tenant_id = request.path_params.get("tenant")
    if source is None or (source.tenant is None) != (tenant_id is not None) or not _is_tenant(tenant_id):
        raise RequestRefusedError("There is no such source of webhooks.", "NOT_FOUND", 404)
    takes = ("POST", "GET") if SCHEMES[source.scheme].takes_get else ("POST",)
    if request.method not in takes:  # Starlette lets HEAD through with GET
        raise RequestRefusedError(f"This source takes {' and '.join(takes)}.", "METHOD_NOT_ALLOWED", 405)
    return source


def _is_tenant(tenant_id: str | None) -> bool:
    """Whether this can be one's id, or there is none."""
    try:
        return tenant_id is None or bool(validate_tenant_id(tenant_id))
    except TenantError:
        return False


async def _received(request: Request, source: WebhookSource) -> Answer:
    body = await read_any(request)
    with ExitStack() as until_answered:
        until_answered.callback(take_place(f"webhook:{source.name}", "of this source"))
        signed = signed_request(request, body)
        tenant_id = source.tenant if isinstance(source.tenant, str) else request.path_params.get("tenant")
        return await run_in_threadpool(_accepted, source, signed, tenant_id)


def signed_request(request: Request, body: bytes) -> SignedRequest:
    """A request as its signature has it. Headers that come several times are one, as HTTP has it."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.decode("latin-1") + (f"?{request.url.query}" if request.url.query else "")
    url = f"{(get_settings().gateway_url or '').rstrip('/')}{path}"
    return SignedRequest(headers, body, url, known_now().timestamp())


def _accepted(source: WebhookSource, request: SignedRequest, tenant_id: str | None) -> Answer:
    scheme = SCHEMES[source.scheme]
    scheme.verify(request, _secrets(source, tenant_id), source.tolerance)
    payload = _payload(request)
    delivery = WebhookDelivery(
        source.name, delivery_id(scheme, request, payload), request.headers, request.body, payload, tenant_id
    )
    whose = tenant_of(source, delivery)
    items = items_of(source, delivery, whose) if whose is not None else []
    if whose is None or not items:
        return {"outcome": "ignored", "runs": []}, 200
    with tenant_context(_customer(whose)), acting_as(f"webhook {source.name}", "api"):
        try:
            handles = get_job_client().send_batch(items)
        except IdempotencyConflictError as exc:
            # Its first time was accepted. What the function makes of it is another payload now, and not sent.
            log.warning("webhook_differs", source=source.name, run=exc.run_id)
            return {"outcome": "duplicate", "runs": [{"id": exc.run_id, "outcome": "deduplicated"}]}, 200
    return _answer(handles)


def _customer(tenant_id: str) -> Tenant:
    """Raises RequestRefusedError, 403, which names no tenant that there is."""
    tenant: Tenant | None = None
    with suppress(TenantError):
        tenant = registry.require(tenant_id)
    if tenant is None or is_platform(tenant):
        raise RequestRefusedError("The delivery is of no customer that is known here.", "FORBIDDEN", 403)
    return tenant


def _answer(handles: list[RunHandle]) -> Answer:
    runs = [{"id": handle.id, "outcome": handle.outcome} for handle in handles]
    if all(handle.deduplicated for handle in handles):
        return {"outcome": "duplicate", "runs": runs}, 200
    return {"outcome": "accepted", "runs": runs}, 202


def _secrets(source: WebhookSource, tenant_id: str | None) -> tuple[str, ...]:
    """Those of the tenant. Whether there is such a tenant is nobody's business who has no secret of it."""
    try:
        return source.secrets(tenant_id)
    except (ConfigurationError, TenantError, LookupError) as exc:
        if not callable(source.secret):
            raise
        code = exc.code if isinstance(exc, CgkTasksError) else None
        log.warning(
            "webhook_without_secret", source=source.name, error=type(exc).__qualname__, code=code, where=where_of(exc)
        )
        raise refused("The signature is not one of this body.") from None


def _payload(request: SignedRequest) -> Any:
    """The JSON of a body; None for a body that is said to be something else, or empty."""
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    is_json = kind == JSON or kind.endswith("+json")
    return parsed(request.body) if request.body and is_json else None
