"""The pages behind `wf.signal_url`: GET asks, POST delivers.

What follows links without a person (previews of mail and chat) sends GET, which changes nothing. The pages have no
script, take nothing from elsewhere, and say nothing of the run but the name of the signal.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from html import escape
from typing import Final

import psycopg
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from cgk_tasks.client import signal_run
from cgk_tasks.errors import CgkTasksError, RunStateError, SignalUrlError, TenantError, UnknownRunError
from cgk_tasks.gateway.problems import as_error
from cgk_tasks.runs.codec import decode
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy import tenant_context
from cgk_tasks.tenancy.audit import acting_as
from cgk_tasks.workflows.signal_urls import SignedSignal, read_token

SQL = statements("gateway")
log = structlog.get_logger("cgk_tasks.gateway")

_STYLE: Final = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;color-scheme:light dark}"
    "button{font:inherit;padding:.6rem 1.4rem;cursor:pointer}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}

Page = tuple[int, str, str]
"""A status, a heading, and what stands below it as HTML."""

_ENDED: Final[Page] = (410, "It is over", "<p>What this address was for has ended. Nothing was done.</p>")
_USED: Final[Page] = (410, "Already used", "<p>This address has been used. It counts once.</p>")
_AWAY: Final[Page] = (503, "Not now", "<p>This cannot be done now. Please try again in some minutes.</p>")


async def ask(request: Request) -> Response:
    """GET: what would be sent, and a button."""
    return _shown(await run_in_threadpool(_page_of, request.path_params["token"], _question))


async def deliver(request: Request) -> Response:
    """POST: sends the signal, if the address was not used before."""
    return _shown(await run_in_threadpool(_page_of, request.path_params["token"], _sent))


def _page_of(token: str, page: Callable[[SignedSignal], Page]) -> Page:
    try:
        return page(read_token(token))
    except SignalUrlError as exc:
        heading = "Too late" if exc.code == "SIGNAL_URL_EXPIRED" else "Not a valid address"
        return 410 if exc.code == "SIGNAL_URL_EXPIRED" else 404, heading, f"<p>{escape(exc.text)} Nothing was done.</p>"
    except (UnknownRunError, RunStateError, TenantError):
        return _ENDED
    except (CgkTasksError, psycopg.Error) as exc:
        log.warning("signal_not_delivered", reason=str(as_error(exc)))
        return _AWAY
    except Exception as exc:  # noqa: BLE001 - whatever it is has a page
        as_error(exc)
        return _AWAY


def _question(signal: SignedSignal) -> Page:
    names = {"id": signal.run_id, "tenant_id": signal.tenant_id, "name": signal.name, "key": signal.key}
    with autocommit() as connection:
        row = fetch(connection, SQL["state_of_signal"], names)[0]
    if row["is_used"]:
        return _USED
    if not row["is_open"]:
        return _ENDED
    name = escape(signal.name)
    button = f'<form method="post"><button type="submit">{name}</button></form>'
    return 200, f"Confirm: {signal.name}", f"<p>Press the button to confirm. This counts once.</p>{button}"


def _sent(signal: SignedSignal) -> Page:
    with tenant_context(signal.tenant_id), acting_as("signal_url", "api"):
        is_new = signal_run(signal.run_id, signal.name, decode(signal.payload), key=signal.key)
    if not is_new:
        return _USED
    return 200, "Done", f"<p>“{escape(signal.name)}” was received. You can close this page.</p>"


def _shown(page: Page) -> Response:
    status, heading, body = page
    title = escape(heading)
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>"
    )
    return Response(html, status, _HEADERS, "text/html")
