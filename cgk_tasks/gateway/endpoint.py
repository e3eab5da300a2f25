"""What every request goes through: its key, its rate, its scope; then the work, in a thread, for its tenant."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cgk_tasks.api_keys import scopes
from cgk_tasks.api_keys.keys import authenticate
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import RequestRefusedError
from cgk_tasks.gateway import problems
from cgk_tasks.gateway.bearer import Bearer
from cgk_tasks.gateway.json_text import to_text
from cgk_tasks.gateway.metrics import count_answer
from cgk_tasks.gateway.request_rate import count_request, take_place_of
from cgk_tasks.tenancy import registry, tenant_context
from cgk_tasks.tenancy.audit import acting_as
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.platform import is_platform

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("cgk_tasks.gateway")

_YEARS: Final = range(1971, 9000)
"""Of times that are taken. What is on record knows no earlier ones, and calculates with later ones."""

_ONCE: Final = ("Authorization", "Content-Type", "Content-Encoding")

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key counts."""

    request: Request
    key: Bearer
    tenant: Tenant

    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may block, for the tenant: it sees no other's runs. The audit has the key."""
        return await run_in_threadpool(partial(self._for_tenant, function, *args, **kwargs))

    def _for_tenant(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with tenant_context(self.tenant), acting_as(f"key {self.key.prefix}", "api"):
            return function(*args, **kwargs)

    def refuse_suspended(self) -> None:
        """Raises RequestRefusedError, 403: what a suspended tenant sends would wait for nobody knows how long."""
        if self.tenant.state == "suspended":
            raise RequestRefusedError(
                f"The tenant {self.tenant.id!r} is suspended.",
                "TENANT_SUSPENDED",
                403,
                hint="Its runs are held, and nothing is accepted for it here, until it is resumed.",
            )

    def again(self) -> Call:
        """The same request as if it came now: its key may have been revoked, and its tenant suspended. Raises
        RequestRefusedError: 401, 403, 429.
        """
        return Call(self.request, *_admitted(self.request))

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def query(self, *known: str) -> dict[str, str]:
        """The parameters after the question mark. Raises RequestRefusedError, 400, for others, and for one twice."""
        given = self.request.query_params.multi_items()
        found = dict(given)
        for name, _value in given:
            if name not in known:
                there_are = f"There are: {', '.join(known)}." if known else "There are none."
                raise bad_request(f"There is no parameter {name[:50]!r}.", there_are + did_you_mean(name[:50], known))
        if len(found) < len(given):
            raise bad_request("A parameter is given twice.")
        return found


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in: whose the request is, how many there may be at the same time, and whether it has the scope."""

    admit: Callable[[Request], tuple[Bearer, Tenant]]
    take_place: Callable[[Bearer], Callable[[], None]]
    require: Callable[[Sequence[str], str], None]


def route(path: str, handler: Handler, method: str, scope: str | None) -> Route:
    """An endpoint. scope: what its key must have; None: the handler looks itself."""
    return Route(path, Endpoint(path, handler, method, scope), methods=[method], name=f"{method} {path}")


class Endpoint:
    """As an ASGI application, because a request is over only when its answer is sent."""

    def __init__(self, path: str, handler: Handler, method: str, scope: str | None, door: Door | None = None) -> None:
        self._path, self._handler, self._method, self._scope = path, handler, method, scope
        self._door = door or BY_KEY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        with ExitStack() as until_answered:
            begun = time.monotonic()
            answer = await self._answer(request, until_answered)
            answer.headers.update(HEADERS)
            count_answer(self._method, self._path, answer.status_code)
            _log(request, self._method, self._path, answer.status_code, time.monotonic() - begun)
            await answer(scope, receive, send)

    async def _answer(self, request: Request, until_answered: ExitStack) -> Response:
        try:
            return await _answered(request, self._handler, self._scope, self._door, until_answered)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except Exception as exc:  # noqa: BLE001 - whatever it is has an answer
            return problems.response(exc)


def _log(request: Request, method: str, path: str, status: int, seconds: float) -> None:
    """A line for each request. Not its address, which may have what is searched for."""
    key: Bearer | None = getattr(request.state, "key", None)
    known = {"tenant": key.tenant_id, "key": key.prefix} if key is not None else {}
    log.info("request", method=method, route=path, status=status, seconds=round(seconds, 4), **known)


async def _answered(
    request: Request, handler: Handler, scope: str | None, door: Door, until_answered: ExitStack
) -> Response:
    texts = [*request.path_params.values(), *(text for item in request.query_params.multi_items() for text in item)]
    if any("\0" in str(text) for text in texts):
        raise bad_request("A NUL character cannot be in the path or its parameters.")
    if twice := next((name for name in _ONCE if len(request.headers.getlist(name)) > 1), None):
        raise bad_request(f"The header {twice} is there twice.")  # a proxy may have looked at the other one
    key, tenant = await run_in_threadpool(door.admit, request)
    request.state.key = key
    until_answered.callback(door.take_place(key))
    if scope is not None:
        door.require(key.scopes, scope)
    return await handler(Call(request, key, tenant))


def _admitted(request: Request) -> tuple[Bearer, Tenant]:
    """The key of a request, and its tenant. Raises RequestRefusedError: 401, 403, 429."""
    text = bearer_text(request)
    if text is None:
        hint = "Send the header Authorization: Bearer KEY."
        raise RequestRefusedError("The request has no key.", "UNAUTHORIZED", 401, hint=hint)
    key = authenticate(text)
    return key, tenant_of(key)


BY_KEY: Final = Door(_admitted, take_place_of, scopes.require)


def bearer_text(request: Request) -> str | None:
    """What the header Authorization has; None if there is none of this kind."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" and text else None


def tenant_of(bearer: Bearer) -> Tenant:
    """The tenant of a request, which is counted. Raises RequestRefusedError: 403, 429."""
    count_request(bearer)
    tenant = registry.require(bearer.tenant_id)
    if is_platform(tenant):
        raise RequestRefusedError("There are no keys of the platform.", "FORBIDDEN", 403)
    return tenant


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(to_text(value), status, headers, "application/json")


def bad_request(text: str, hint: str | None = None) -> RequestRefusedError:
    return RequestRefusedError(text, "BAD_REQUEST", 400, hint=hint)


def whole_number(values: dict[str, str], name: str, default: int, most: int) -> int:
    """A parameter from 1 to `most`. Raises RequestRefusedError."""
    text = values.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise bad_request(f"The parameter {name} must be a whole number from 1 to {most:,}.")
    return int(text)


def seconds_of(values: dict[str, str], name: str, most: float) -> float:
    """A parameter from 0 to `most`; 0 where it is not given. Raises RequestRefusedError."""
    try:
        seconds = float(values.get(name, "0"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= most:
        raise bad_request(f"The parameter {name} must be a number of seconds from 0 to {most:g}.")
    return seconds


def moment_of(name: str, text: object) -> datetime:
    """A time in ISO 8601, with its zone. Raises RequestRefusedError."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.year not in _YEARS:
        raise bad_request(
            f"{name} must be a time in ISO 8601 with a time zone, like 2026-12-01T09:00:00Z.",
            "In an address a + is written as %2B.",
        )
    return moment
