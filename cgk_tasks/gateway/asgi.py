"""The ASGI application: which paths there are, and what serves each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cgk_tasks.api_keys.scopes import OPERATE, READ
from cgk_tasks.builtin import register_builtin_jobs
from cgk_tasks.client import get_job_client
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.gateway import (
    health,
    problems,
    runs,
    sending,
    signal_pages,
    streams,
    tenant,
    ticks,
    tokens,
    webhooks,
)
from cgk_tasks.gateway.description import show_description
from cgk_tasks.gateway.endpoint import Handler, route
from cgk_tasks.inbound.sources import all_sources
from cgk_tasks.jobs.registry import import_job_modules

log = structlog.get_logger("cgk_tasks.gateway")

SignedHandler = Callable[[Request], Awaitable[Response]]

ENDPOINTS: Final[tuple[tuple[str, str, Handler, str | None], ...]] = (
    ("POST", "/v1/events", sending.send_many, None),  # which look at the scope for each event
    ("POST", "/v1/events/{event}", sending.send_one, None),
    ("GET", "/v1/runs", runs.list_runs, READ),
    ("GET", "/v1/runs/{id}", runs.show_run, READ),
    ("GET", "/v1/runs/{id}/result", runs.show_result, READ),
    ("GET", "/v1/runs/{id}/logs", runs.show_logs, READ),
    ("GET", "/v1/runs/{id}/stream", streams.watch_run, READ),
    ("POST", "/v1/runs/{id}/cancel", runs.cancel, OPERATE),
    ("POST", "/v1/runs/{id}/replay", runs.replay, OPERATE),
    ("POST", "/v1/runs/{id}/signals/{name}", runs.signal, OPERATE),
    ("GET", "/v1/stream", streams.watch_runs, READ),
    ("POST", "/v1/tokens", tokens.make_token, READ),
    ("GET", "/v1/schedules", tenant.show_schedules, READ),
    ("GET", "/v1/limits", tenant.show_limits, READ),
    ("GET", "/v1/usage", tenant.show_usage, READ),
    ("GET", "/v1/openapi.json", show_description, None),  # for any key
)
"""What takes a key: method, path, handler, and the scope that the key must have."""

STREAMS: Final = frozenset({"/v1/runs/{id}/stream", "/v1/stream"})
"""Those of them that take a browser's token, too."""

SIGNED: Final[tuple[tuple[str, str, SignedHandler], ...]] = (
    ("POST", "/v1/webhooks/{source}", webhooks.receive),
    ("GET", "/v1/webhooks/{source}", webhooks.receive),
    ("POST", "/v1/webhooks/{source}/{tenant}", webhooks.receive),
    ("GET", "/v1/webhooks/{source}/{tenant}", webhooks.receive),
    ("POST", "/v1/tick", ticks.tick),
    ("GET", "/v1/tick", ticks.tick),
)
"""What takes a signature or a secret of its sender in place of a key."""


def make_application() -> Starlette:
    """See `cgk_tasks.gateway.application`."""
    get_settings().database  # noqa: B018 - raises when there is none
    provider = get_job_client().provider.name
    if provider != "celery":
        raise ConfigurationError(f"The gateway sends to workers of this application, and JOBS_PROVIDER is {provider}.")
    register_builtin_jobs()
    import_job_modules()
    for source in all_sources():
        source.check()
    made = Starlette(
        routes=[
            *(one for endpoint in ENDPOINTS for one in _routes(*endpoint)),
            *(Route(path, handler, methods=[method], name=f"{method} {path}") for method, path, handler in SIGNED),
            Route("/v1/health/live", health.live, methods=["GET"]),
            Route("/v1/health/ready", health.ready, methods=["GET"]),
            Route("/signals/{token}", signal_pages.ask, methods=["GET"]),
            Route("/signals/{token}", signal_pages.deliver, methods=["POST"]),
        ],
        exception_handlers={HTTPException: problems.of_http},
    )
    made.router.redirect_slashes = False  # the address to redirect to would be made of the request's Host
    return made


def _routes(method: str, path: str, handler: Handler, scope: str | None) -> list[Route]:
    if path in STREAMS:
        return streams.stream_routes(path, handler, method, scope)
    return [route(path, handler, method, scope)]
