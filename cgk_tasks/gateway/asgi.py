"""The ASGI application: which paths there are, and what serves each."""

from __future__ import annotations

from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from cgk_tasks.api_keys.scopes import OPERATE, READ
from cgk_tasks.builtin import register_builtin_jobs
from cgk_tasks.client import get_job_client
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.gateway import health, problems, runs, sending, signal_pages, tenant
from cgk_tasks.gateway.description import show_description
from cgk_tasks.gateway.endpoint import Handler, route
from cgk_tasks.jobs.registry import import_job_modules

log = structlog.get_logger("cgk_tasks.gateway")

ENDPOINTS: Final[tuple[tuple[str, str, Handler, str | None], ...]] = (
    ("POST", "/v1/events", sending.send_many, None),  # which look at the scope for each event
    ("POST", "/v1/events/{event}", sending.send_one, None),
    ("GET", "/v1/runs", runs.list_runs, READ),
    ("GET", "/v1/runs/{id}", runs.show_run, READ),
    ("GET", "/v1/runs/{id}/result", runs.show_result, READ),
    ("GET", "/v1/runs/{id}/logs", runs.show_logs, READ),
    ("POST", "/v1/runs/{id}/cancel", runs.cancel, OPERATE),
    ("POST", "/v1/runs/{id}/replay", runs.replay, OPERATE),
    ("POST", "/v1/runs/{id}/signals/{name}", runs.signal, OPERATE),
    ("GET", "/v1/schedules", tenant.show_schedules, READ),
    ("GET", "/v1/limits", tenant.show_limits, READ),
    ("GET", "/v1/usage", tenant.show_usage, READ),
    ("GET", "/v1/openapi.json", show_description, None),  # for any key
)
"""What takes a key: method, path, handler, and the scope that the key must have."""


def make_application() -> Starlette:
    """See `cgk_tasks.gateway.application`."""
    get_settings().database  # noqa: B018 - raises when there is none
    provider = get_job_client().provider.name
    if provider != "celery":
        raise ConfigurationError(f"The gateway sends to workers of this application, and JOBS_PROVIDER is {provider}.")
    register_builtin_jobs()
    import_job_modules()
    made = Starlette(
        routes=[
            *(route(path, handler, method, scope) for method, path, handler, scope in ENDPOINTS),
            Route("/v1/health/live", health.live, methods=["GET"]),
            Route("/v1/health/ready", health.ready, methods=["GET"]),
            Route("/signals/{token}", signal_pages.ask, methods=["GET"]),
            Route("/signals/{token}", signal_pages.deliver, methods=["POST"]),
        ],
        exception_handlers={HTTPException: problems.of_http},
    )
    made.router.redirect_slashes = False  # the address to redirect to would be made of the request's Host
    return made
