"""Errors as HTTP answers: RFC 9457 problem details with code and hint. One table says which status each has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import psycopg
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cgk_tasks import errors
from cgk_tasks.dashboard.data.queries import QueryTimeoutError
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.gateway.json_text import to_text
from cgk_tasks.runs.text import where_of
from cgk_tasks.sql.postgres import explain

log = structlog.get_logger("cgk_tasks.gateway")

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[CgkTasksError], int]] = {
    errors.UnknownEventError: 404,
    errors.PayloadInvalidError: 422,
    errors.PayloadTooLargeError: 413,
    errors.InvalidOptionError: 422,
    errors.IdempotencyConflictError: 409,
    errors.ChunkRefusedError: 422,
    errors.QueueFullError: 429,
    errors.QuotaExceededError: 429,
    errors.SendError: 422,
    errors.UnknownRunError: 404,
    errors.RunStateError: 409,
    errors.UnknownScheduleError: 404,
    errors.TenantMissingError: 422,
    errors.InvalidTenantError: 422,
    errors.TenantError: 403,
    errors.PermanentError: 422,  # a signal's payload that cannot be kept
    errors.SignalUrlError: 410,
    QueryTimeoutError: 503,
    errors.StoreError: 503,
    errors.BrokerError: 503,
    errors.CgkTasksError: 500,
}
"""The status of each error, and of those below it that have none of their own. A RequestRefusedError has its own."""

_TOLD: Final[frozenset[type[CgkTasksError]]] = frozenset({QueryTimeoutError})
"""Of the errors of the server's side, those whose text may be told: others name servers and settings."""

_WHAT: Final = {
    503: "The record of runs cannot be reached now.",
    500: "The request could not be served. The gateway's log says why.",
}
_TITLES: Final = {
    400: "Bad request", 401: "Unauthorized", 403: "Forbidden", 404: "Not found", 405: "Method not allowed",
    408: "Request timeout", 409: "Conflict", 410: "Gone", 413: "Content too large", 415: "Unsupported media type",
    422: "Unprocessable content", 429: "Too many requests", 500: "Internal server error", 503: "Service unavailable",
}  # fmt: skip
_MEMBERS: Final = ("item", "problems", "nearest", "option", "limit_bytes", "size_bytes", "run_id", "state", "limit")
"""Attributes of errors that are told as members of their own."""


def status_of(error: CgkTasksError) -> int:
    if isinstance(error, errors.RequestRefusedError):
        return error.status
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def as_error(exc: Exception) -> CgkTasksError:
    """An exception as one of ours. What nobody has foreseen is logged: with where, and without its text, which may
    quote a payload.
    """
    if isinstance(exc, CgkTasksError):
        return exc
    if isinstance(exc, psycopg.Error):
        return explain(exc)
    log.error("request_failed", error=type(exc).__qualname__, where=where_of(exc))
    return CgkTasksError(_WHAT[500])


def problem(error: CgkTasksError) -> dict[str, Any]:
    """The problem details of an error."""
    status = status_of(error)
    is_ours = status >= 500 and type(error) not in _TOLD
    if is_ours:
        log.warning("request_not_served", code=error.code, reason=str(error))
    found: dict[str, Any] = {
        "type": f"urn:cgk-tasks:error:{error.code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": _WHAT.get(status, _WHAT[500]) if is_ours else error.text,
        "code": error.code,
    }
    if not is_ours:
        found |= {"hint": error.hint} if error.hint else {}
        members = {name: getattr(error, name, None) for name in _MEMBERS}
        if isinstance(error, errors.InvalidOptionError):
            members["option"] = _camel(error.option)
        found |= {_camel(name): value for name, value in members.items() if value is not None}
    if (seconds := _retry_after(error, status)) is not None:
        found["retryAfter"] = seconds
    return found


def response(exc: Exception) -> Response:
    """The answer to a request that failed."""
    found = problem(as_error(exc))
    headers = {}
    if "retryAfter" in found:
        headers["Retry-After"] = str(found["retryAfter"])
    if found["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(to_text(found), found["status"], headers, MEDIA_TYPE)


def of_http(_request: Request, exc: Exception) -> Response:
    """What the router refuses: a path that there is not, or a method that it does not have."""
    assert isinstance(exc, HTTPException)
    code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(exc.status_code, "BAD_REQUEST")
    text = {404: "There is nothing at this path.", 405: "This path does not take this method."}
    refused = errors.RequestRefusedError(text.get(exc.status_code, "The request was refused."), code, exc.status_code)
    answer = response(refused)
    if "Allow" in (exc.headers or {}):
        answer.headers["Allow"] = (exc.headers or {})["Allow"]
    return answer


def _retry_after(error: CgkTasksError, status: int) -> int | None:
    seconds: float | None = getattr(error, "retry_after", None)
    if seconds is None:
        return 5 if status == 503 else None
    return max(1, math.ceil(seconds))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
