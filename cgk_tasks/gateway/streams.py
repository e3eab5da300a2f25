"""Streams of Server-Sent Events: what becomes of a run, or of a tenant's runs, while it happens.

A message is a run as it is now, so none depends on those before it. A client that comes back says the id of the last
one that it got: of a run's stream the id says how the run was told, of a tenant's stream when somebody looked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cgk_tasks.api_keys import scopes
from cgk_tasks.api_keys.keys import authenticate, require_active
from cgk_tasks.config import get_settings
from cgk_tasks.errors import RequestRefusedError, UnknownRunError
from cgk_tasks.gateway.bearer import Bearer
from cgk_tasks.gateway.browser_tokens import FORM, read_token
from cgk_tasks.gateway.endpoint import Call, Door, Endpoint, Handler, bad_request, bearer_text, seconds_of, tenant_of
from cgk_tasks.gateway.metrics import open_stream
from cgk_tasks.gateway.request_rate import take_stream
from cgk_tasks.gateway.runs import run_id_in_path
from cgk_tasks.gateway.watched_runs import Describer
from cgk_tasks.gateway.watching import Message, Stream, cursor_of, look_at_runs, look_at_tenants, watches
from cgk_tasks.sql.clock import database_now
from cgk_tasks.tenancy.models import Tenant

EVENT_STREAM: Final = "text/event-stream"
RESUME: Final = "Last-Event-ID"
LONGEST_WAIT_SECONDS: Final = 3_600.0
LONGEST_AWAY: Final = timedelta(minutes=10)
"""Who comes back to a tenant's stream later than this is told to list the runs anew."""

_RETRY_MS: Final = 1_000
_SPREAD: Final = 0.2
"""Streams that begin together end at different times, so that not all come back at once."""
_HEADERS: Final = {"Referrer-Policy": "no-referrer", "X-Accel-Buffering": "no"}
"""An address may have a token; and nginx would keep messages until it has many."""


async def watch_run(call: Call) -> Response:
    """GET /v1/runs/{id}/stream: what becomes of one run, until it has ended."""
    given = call.query("wait", "token")
    run_id = run_id_in_path(call)
    scopes.require_watch(call.key.scopes, run_id)
    stream = Stream(call.tenant.id, run_id)
    first = await call.do(_first_of_run, stream, call.request.headers.get(RESUME))
    if stream.is_over and not first:
        return Response(status_code=204)  # its end was told: a browser comes back no more
    return _EventStream(stream, first, _seconds(call, given))


async def watch_runs(call: Call) -> Response:
    """GET /v1/stream: what becomes of a tenant's runs."""
    given = call.query("wait", "token", "queue", "event")
    scopes.require_watch(call.key.scopes, None)
    stream = Stream(call.tenant.id, queue=given.get("queue"), event=given.get("event"))
    first = await call.do(_first_of_tenant, stream, call.request.headers.get(RESUME))
    return _EventStream(stream, first, _seconds(call, given))


def _first_of_run(stream: Stream, last_id: str | None) -> list[Message]:
    """The run as it is now, if that is not what was told last. Raises UnknownRunError."""
    found = look_at_runs([stream], Describer())
    if not found:
        raise UnknownRunError(stream.run_id or "")
    ((_stream, (message,)),) = found
    stream.is_over = message.is_last
    return [] if message.id == last_id else [message]


def _first_of_tenant(stream: Stream, last_id: str | None) -> list[Message]:
    """The runs that are on; after a break, what was sent or has ended meanwhile too."""
    now = database_now()
    first = []
    if last_id:
        stream.since = _moment(last_id, now)
        if stream.since is None:
            first.append(Message(cursor_of(now)))
    found = look_at_tenants([stream], Describer())
    stream.told_until = None if stream.since is None else cursor_of(stream.since)
    return first + [message for _stream, messages in found for message in messages]


def _moment(last_id: str, now: datetime) -> datetime | None:
    """The time that the id of a tenant's message is; None for what is none, and for one that is too long ago."""
    if not (last_id.isascii() and last_id.isdecimal() and len(last_id) <= 16):
        return None
    moment = datetime.fromtimestamp(int(last_id) / 1_000_000, UTC)
    return None if now - moment > LONGEST_AWAY else min(moment, now)


def _seconds(call: Call, given: dict[str, str]) -> float:
    """How long the stream lasts: as long as it was asked for, and as it may, and as its token counts."""
    longest = get_settings().gateway_stream_seconds * random.uniform(1 - _SPREAD, 1.0)  # noqa: S311 - no secret
    if "wait" in given:
        longest = min(longest, seconds_of(given, "wait", LONGEST_WAIT_SECONDS))
    if call.key.expires_at is not None:
        longest = min(longest, (call.key.expires_at - database_now()).total_seconds())
    return max(0.0, longest)


class _EventStream(Response):
    """The answer, which goes on until its time is over, the run has ended, or the client is gone."""

    def __init__(self, stream: Stream, first: Sequence[Message], seconds: float) -> None:
        super().__init__(None, 200, _HEADERS, EVENT_STREAM)
        del self.headers["content-length"]
        self._stream, self._first, self._seconds = stream, first, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async with anyio.create_task_group() as group:
                group.start_soon(_end_with_client, receive, group.cancel_scope)
                await self._tell(send)
                group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        ends_at = time.monotonic() + self._seconds
        heartbeat = get_settings().gateway_heartbeat_seconds
        about = "tenant" if self._stream.run_id is None else "run"
        with open_stream(about), watches().of(self._stream).open(self._stream):
            body = b"retry: %d\n\n" % _RETRY_MS + (_body(self._first) or self._heartbeat())
            try:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                while not self._stream.is_done and (left := ends_at - time.monotonic()) > 0:
                    due = await self._stream.due(min(heartbeat, left))
                    await send(
                        {"type": "http.response.body", "body": _body(due) or self._heartbeat(), "more_body": True}
                    )
            except OSError:
                return  # the client is gone

    def _heartbeat(self) -> bytes:
        """It keeps the connection open, and tells a tenant's client nothing but until when it has been told."""
        told_until = self._stream.told_until
        return b":\n\n" if told_until is None else b"id: %s\n\n" % told_until.encode()


def _body(messages: Sequence[Message]) -> bytes:
    return b"".join(message.encoded() for message in messages)


async def _end_with_client(receive: Receive, telling: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    telling.cancel()


def _admitted(request: Request) -> tuple[Bearer, Tenant]:
    """Who watches: a key, or a browser's token, which may stand in the address too, since EventSource sends no headers.

    Raises RequestRefusedError: 400, 401, 403, 429.
    """
    in_header, in_address = bearer_text(request), request.query_params.get("token")
    if in_header is not None and in_address is not None:
        raise bad_request("A token is given twice: in the header Authorization, and in the address.")
    text = in_header if in_address is None else in_address
    if text is None:
        hint = "Send the header Authorization: Bearer KEY, or a browser's token as the parameter token."
        raise RequestRefusedError("The request has no key.", "UNAUTHORIZED", 401, hint=hint)
    if in_address is None and not text.startswith(FORM):
        key = authenticate(text)
        return key, tenant_of(key)
    token = read_token(text)
    if token.key:
        require_active(token.key)
    return token, tenant_of(token)


def _may_watch(given: Sequence[str], scope: str) -> None:
    """A token's scope says which run: the handler looks at that."""
    if not any(one.startswith(scopes.WATCH) for one in given):
        scopes.require(given, scope)


BY_KEY_OR_TOKEN: Final = Door(_admitted, take_stream, _may_watch)


def stream_routes(path: str, handler: Handler, method: str, scope: str | None) -> list[Route]:
    """The routes of an endpoint that is a stream: for pages of CGK_GATEWAY_ORIGINS, too."""
    served: ASGIApp = Endpoint(path, handler, method, scope, BY_KEY_OR_TOKEN)
    origins = get_settings().gateway_origins
    if not origins:
        return [Route(path, served, methods=[method])]
    return [
        Route(path, _for_pages(served, origins), methods=[method]),
        Route(path, _for_pages(_not_asked, origins), methods=["OPTIONS"]),
    ]


def _for_pages(served: ASGIApp, origins: Sequence[str]) -> CORSMiddleware:
    return CORSMiddleware(served, allow_origins=origins, allow_methods=["GET"], allow_headers=["Authorization", RESUME])


async def _not_asked(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """OPTIONS that is not a browser's question whether it may."""
    raise HTTPException(405, headers={"Allow": "GET"})
