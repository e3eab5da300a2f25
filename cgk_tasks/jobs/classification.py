"""Decides what a retry can do about an error: transient, permanent or unknown.

The evidence is taken in this order, best first:

1. what a job raised to steer its run (PermanentError, TransientError, RetryLater), and an attribute ``code``
   that is in the table
2. the exception's type      3. its SQLSTATE      4. its HTTP status      5. its errno
6. last, phrases of the message that cannot mean anything else. These never make an error permanent: a
   sentence that happens to be in a message must not cost a run its retries.

An exception that says nothing, or only "network" or "database", is judged by what caused it. Foreign
exceptions are known by their qualified names, so none of their libraries is imported here.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Literal

from cgk_tasks.errors import CgkTasksError, PermanentError, RetryLater, TransientError, as_seconds

Kind = Literal["transient", "permanent", "unknown"]

_PLATFORM_PERMANENT = frozenset(
    """
    INVALID_INPUT MISSING_TENANT_ID INVALID_TENANT_ID MISSING_REQUIRED_FIELD INVALID_PAYLOAD NOT_CONFIGURED
    INVALID_CREDENTIALS ACCOUNT_NOT_FOUND ACCOUNT_DISABLED PERMISSION_DENIED UNAUTHORIZED INSUFFICIENT_BALANCE
    DUPLICATE_TRANSACTION ALREADY_PROCESSED INVALID_STATE PAYOUT_ALREADY_COMPLETED COMMISSION_ALREADY_MATURED
    RECORD_NOT_FOUND FOREIGN_KEY_VIOLATION UNIQUE_CONSTRAINT_VIOLATION STRIPE_CARD_DECLINED
    STRIPE_INVALID_ACCOUNT STRIPE_ACCOUNT_CLOSED WISE_INVALID_RECIPIENT WISE_BLOCKED_RECIPIENT
    WISE_UNSUPPORTED_CURRENCY
    """.split()  # noqa: SIM905 - a table reads better than 46 quoted strings
)
_PLATFORM_TRANSIENT = frozenset(
    """
    NETWORK_ERROR TIMEOUT CONNECTION_REFUSED DNS_RESOLUTION_FAILED RATE_LIMITED TOO_MANY_REQUESTS THROTTLED
    SERVICE_UNAVAILABLE BAD_GATEWAY GATEWAY_TIMEOUT INTERNAL_SERVER_ERROR DEADLOCK LOCK_TIMEOUT
    CONNECTION_POOL_EXHAUSTED DATABASE_UNAVAILABLE STRIPE_API_ERROR STRIPE_RATE_LIMIT WISE_API_ERROR
    WISE_RATE_LIMIT WISE_PROCESSING_ERROR
    """.split()  # noqa: SIM905 - a table reads better than 46 quoted strings
)

PERMANENT_CODES = _PLATFORM_PERMANENT | {
    "PERMANENT_ERROR",
    "CANCELLED",
    "TENANT_CONTEXT_ERROR",
    "UNKNOWN_EVENT",
    "PAYLOAD_TOO_LARGE",
    "INVALID_OPTION",
    "IDEMPOTENCY_CONFLICT",
    "SECRET_DAMAGED",
}
"""Codes of failures that no retry cures: the run fails at once."""

TRANSIENT_CODES = _PLATFORM_TRANSIENT | {
    "TRANSIENT_ERROR",
    "RETRY_LATER",
    "QUEUE_FULL",
    "QUOTA_EXCEEDED",
    "BROKER_ERROR",
    "ENCRYPTION_KEY_MISSING",
}
"""Codes of failures that pass by themselves: the run is retried."""

UNKNOWN_CODE = "UNKNOWN_ERROR"
MAX_RETRY_AFTER_SECONDS = 86_400.0
"""What another system asks us to wait is believed up to a day."""

# A type that says no more than this is refined by its SQLSTATE, HTTP status, errno or cause, if there is one.
_VAGUE_CODES = frozenset({"NETWORK_ERROR", "DATABASE_UNAVAILABLE"})

_TYPES = {
    "builtins.TimeoutError": "TIMEOUT",  # also socket.timeout and asyncio.TimeoutError
    "builtins.ConnectionRefusedError": "CONNECTION_REFUSED",
    "builtins.ConnectionError": "NETWORK_ERROR",
    "socket.gaierror": "DNS_RESOLUTION_FAILED",
    "socket.herror": "DNS_RESOLUTION_FAILED",
    "ssl.SSLError": "NETWORK_ERROR",
    "http.client.IncompleteRead": "NETWORK_ERROR",
    "pydantic_core._pydantic_core.ValidationError": "INVALID_PAYLOAD",
    "billiard.exceptions.SoftTimeLimitExceeded": "TIMEOUT",  # Celery raises billiard's
    "billiard.exceptions.TimeLimitExceeded": "TIMEOUT",
    "celery.exceptions.TimeoutError": "TIMEOUT",
    "kombu.exceptions.OperationalError": "NETWORK_ERROR",
    "amqp.exceptions.RecoverableConnectionError": "NETWORK_ERROR",
    "sqlalchemy.exc.TimeoutError": "CONNECTION_POOL_EXHAUSTED",
    "sqlalchemy.exc.OperationalError": "DATABASE_UNAVAILABLE",
    "psycopg.OperationalError": "DATABASE_UNAVAILABLE",
    "psycopg2.OperationalError": "DATABASE_UNAVAILABLE",
    "psycopg2.pool.PoolError": "CONNECTION_POOL_EXHAUSTED",
    "psycopg_pool.PoolTimeout": "CONNECTION_POOL_EXHAUSTED",
    "psycopg_pool.TooManyRequests": "CONNECTION_POOL_EXHAUSTED",
    "redis.exceptions.TimeoutError": "TIMEOUT",
    "redis.exceptions.MaxConnectionsError": "CONNECTION_POOL_EXHAUSTED",
    "redis.exceptions.AuthenticationError": "INVALID_CREDENTIALS",
    "redis.exceptions.NoPermissionError": "PERMISSION_DENIED",
    "redis.exceptions.BusyLoadingError": "SERVICE_UNAVAILABLE",
    "redis.exceptions.ReadOnlyError": "SERVICE_UNAVAILABLE",  # a failover is under way
    "redis.exceptions.ClusterDownError": "SERVICE_UNAVAILABLE",
    "redis.exceptions.MasterDownError": "SERVICE_UNAVAILABLE",
    "redis.exceptions.TryAgainError": "SERVICE_UNAVAILABLE",
    "redis.exceptions.ConnectionError": "NETWORK_ERROR",
    "httpx.TimeoutException": "TIMEOUT",
    "httpx.NetworkError": "NETWORK_ERROR",
    "httpx.RemoteProtocolError": "NETWORK_ERROR",
    "httpx.ProxyError": "NETWORK_ERROR",
    "httpcore.TimeoutException": "TIMEOUT",
    "httpcore.NetworkError": "NETWORK_ERROR",
    "requests.exceptions.ConnectTimeout": "TIMEOUT",
    "requests.exceptions.Timeout": "TIMEOUT",
    "requests.exceptions.RetryError": "SERVICE_UNAVAILABLE",
    "requests.exceptions.ConnectionError": "NETWORK_ERROR",
    "requests.exceptions.ChunkedEncodingError": "NETWORK_ERROR",
    "urllib3.exceptions.NameResolutionError": "DNS_RESOLUTION_FAILED",
    "urllib3.exceptions.NewConnectionError": "NETWORK_ERROR",  # in spite of its base, no timeout
    "urllib3.exceptions.TimeoutError": "TIMEOUT",
    "urllib3.exceptions.MaxRetryError": "NETWORK_ERROR",
    "urllib3.exceptions.ProtocolError": "NETWORK_ERROR",
    "urllib3.exceptions.SSLError": "NETWORK_ERROR",
    "aiohttp.client_exceptions.ServerTimeoutError": "TIMEOUT",
    "aiohttp.client_exceptions.ClientConnectorDNSError": "DNS_RESOLUTION_FAILED",
    "aiohttp.client_exceptions.ClientConnectionError": "NETWORK_ERROR",
    "aiohttp.client_exceptions.ClientPayloadError": "NETWORK_ERROR",
    "stripe._error.CardError": "STRIPE_CARD_DECLINED",
    "stripe._error.RateLimitError": "STRIPE_RATE_LIMIT",
    "stripe._error.APIConnectionError": "STRIPE_API_ERROR",
    "stripe._error.APIError": "STRIPE_API_ERROR",
}

# By the whole SQLSTATE, else by its class (the first two characters).
_SQLSTATES = {
    "40P01": "DEADLOCK",
    "40001": "DEADLOCK",  # serialization failure
    "55P03": "LOCK_TIMEOUT",
    "57014": "TIMEOUT",  # statement timeout
    "25P03": "TIMEOUT",  # idle in transaction
    "25P04": "TIMEOUT",  # transaction timeout
    "53300": "CONNECTION_POOL_EXHAUSTED",  # the server's own connections
    "57P01": "DATABASE_UNAVAILABLE",  # shutting down, crashed, starting up, idle too long
    "57P02": "DATABASE_UNAVAILABLE",
    "57P03": "DATABASE_UNAVAILABLE",
    "57P05": "DATABASE_UNAVAILABLE",
    "08": "DATABASE_UNAVAILABLE",  # connection
    "53": "DATABASE_UNAVAILABLE",  # out of memory, disk full
    "58": "DATABASE_UNAVAILABLE",  # system, I/O
    "23505": "UNIQUE_CONSTRAINT_VIOLATION",
    "23P01": "UNIQUE_CONSTRAINT_VIOLATION",  # exclusion constraint
    "23503": "FOREIGN_KEY_VIOLATION",
    "23514": "INVALID_INPUT",  # check constraint
    "23502": "MISSING_REQUIRED_FIELD",  # not null
    "22": "INVALID_INPUT",  # text too long, number out of range, ...
    "42501": "PERMISSION_DENIED",
    "28": "INVALID_CREDENTIALS",
}

_HTTP_STATUSES = {
    401: "UNAUTHORIZED",
    403: "PERMISSION_DENIED",
    404: "RECORD_NOT_FOUND",
    408: "TIMEOUT",
    429: "RATE_LIMITED",
}
_DEFAULT_RETRY_AFTER_SECONDS = {429: 60.0, 503: 30.0}

_ERRNOS = {
    errno.ECONNREFUSED: "CONNECTION_REFUSED",
    errno.ETIMEDOUT: "TIMEOUT",
    errno.ECONNRESET: "NETWORK_ERROR",
    errno.ECONNABORTED: "NETWORK_ERROR",
    errno.EPIPE: "NETWORK_ERROR",
    errno.ENETDOWN: "NETWORK_ERROR",
    errno.ENETUNREACH: "NETWORK_ERROR",
    errno.EHOSTUNREACH: "NETWORK_ERROR",
}

_PHRASES = [
    (re.compile(rf"\b(?:{phrases})\b", re.IGNORECASE), code)
    for code, phrases in {
        "DEADLOCK": "deadlock detected|could not serialize access",
        "LOCK_TIMEOUT": "canceling statement due to lock timeout|lock wait timeout exceeded",
        "CONNECTION_POOL_EXHAUSTED": "sorry, too many clients already|connection pool exhausted",
        "DATABASE_UNAVAILABLE": "server closed the connection unexpectedly"
        "|the database system is (?:starting up|shutting down|in recovery mode)",
        "DNS_RESOLUTION_FAILED": "could not translate host name|name or service not known"
        "|temporary failure in name resolution|nodename nor servname provided|getaddrinfo failed",
        "CONNECTION_REFUSED": "connection refused",
        "TIMEOUT": "(?:connection|connect|read|request|operation) timed out",
        "NETWORK_ERROR": "connection reset by peer|network is unreachable|no route to host",
    }.items()
]


@dataclass(frozen=True, slots=True)
class Classification:
    """What is known about an error.

    kind: ``permanent`` fails the run; ``transient`` and ``unknown`` are retried up to its max_attempts.
    code: names the failure; stored with the run.
    retry_after: the least time to wait in seconds, where the error says one.
    """

    kind: Kind
    code: str
    retry_after: float | None = None


def kind_of_code(code: str) -> Kind:
    """Return what the table says about a code; ``unknown`` if it is not in the table."""
    if code in PERMANENT_CODES:
        return "permanent"
    return "transient" if code in TRANSIENT_CODES else "unknown"


def classify_error(exc: BaseException) -> Classification:
    """Classify any exception. Never raises.

    An exception group is permanent if one of its members is, else transient if one is.
    """
    vague: str | None = None
    links = list(_causes(exc))
    for link in links:
        if isinstance(link, BaseExceptionGroup):
            return _classify_group(link)
        exact = _classify_steering(link) or _classify_by_facts(link)
        if exact is not None:
            return exact
        vague = vague or _code_of_type(link)
    code = vague or _code_of_text(links)
    if code is not None:
        return Classification("transient", code)
    return Classification("unknown", exc.code if isinstance(exc, CgkTasksError) else UNKNOWN_CODE)


def asked_wait(exc: BaseException) -> float | None:
    """The seconds for which the other side asked to wait, in so many words: a Retry-After, or the `retry_after` of an
    error. None where it said nothing.
    """
    return next((asked for link in _causes(exc) if (asked := _retry_after(link)) is not None), None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The exception, what caused it, what caused that, ..."""
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        # SQLAlchemy keeps the driver's error in .orig, urllib3 in .reason, requests among its arguments.
        inner = (link.__cause__, _attribute(link, "orig"), _attribute(link, "reason"), *link.args)
        link = next((candidate for candidate in inner if isinstance(candidate, BaseException)), None)


def _classify_group(group: BaseExceptionGroup[BaseException]) -> Classification:
    members = [classify_error(member) for member in group.exceptions]
    by_kind = {member.kind: member for member in reversed(members)}
    found = by_kind.get("permanent") or by_kind.get("transient") or members[0]
    if found.kind != "transient":
        return found
    return Classification("transient", found.code, max((m.retry_after for m in members if m.retry_after), default=None))


def _classify_steering(exc: BaseException) -> Classification | None:
    if isinstance(exc, PermanentError):
        return Classification("permanent", exc.code)
    if isinstance(exc, TransientError):
        return Classification("transient", exc.code, exc.retry_after)
    if isinstance(exc, RetryLater):
        return Classification("transient", exc.code, exc.delay_seconds)
    return None


def _classify_by_facts(exc: BaseException) -> Classification | None:
    explicit, of_type = _explicit_code(exc), _code_of_type(exc)
    code = explicit or (of_type if of_type not in _VAGUE_CODES else None)
    if code is not None:
        return _from_code(code, exc)
    sqlstate = _sqlstate(exc)
    if sqlstate is not None:
        known = _SQLSTATES.get(sqlstate) or _SQLSTATES.get(sqlstate[:2])
        return _from_code(known or f"SQLSTATE_{sqlstate}", exc)
    status = _http_status(exc)
    if status is not None:
        known = _HTTP_STATUSES.get(status) or ("SERVICE_UNAVAILABLE" if status >= 500 else f"HTTP_{status}")
        return _from_code(known, exc, _DEFAULT_RETRY_AFTER_SECONDS.get(status))
    if isinstance(exc, OSError) and exc.errno in _ERRNOS:
        return _from_code(_ERRNOS[exc.errno], exc)
    return None


def _from_code(code: str, exc: BaseException, default_retry_after: float | None = None) -> Classification:
    kind = kind_of_code(code)
    if kind == "permanent":
        return Classification(kind, code)
    asked = _retry_after(exc)
    return Classification(kind, code, default_retry_after if asked is None else asked)


def _attribute(thing: object, name: str) -> object:
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - some libraries' attributes are properties that raise
        return None


def _explicit_code(exc: BaseException) -> str | None:
    code = _attribute(exc, "code")
    return code if isinstance(code, str) and kind_of_code(code) != "unknown" else None


def _code_of_type(exc: BaseException) -> str | None:
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(exc).__mro__)
    return next((_TYPES[name] for name in names if name in _TYPES), None)


def _sqlstate(exc: BaseException) -> str | None:
    for name in ("sqlstate", "pgcode"):  # psycopg 3 and asyncpg; psycopg2
        value = _attribute(exc, name)
        if isinstance(value, str) and len(value) == 5:
            return value
    return None


def _http_status(exc: BaseException) -> int | None:
    response = _attribute(exc, "response")
    candidates = (
        _attribute(response, "status_code"),  # httpx, requests
        _attribute(exc, "status_code"),
        _attribute(exc, "http_status"),  # stripe
        _attribute(exc, "status"),  # aiohttp
        _attribute(exc, "code"),  # urllib
    )
    return next((int(c) for c in candidates if isinstance(c, int) and 400 <= c <= 599), None)


def _retry_after(exc: BaseException) -> float | None:
    own = _attribute(exc, "retry_after")
    if isinstance(own, (int, float, timedelta)):
        return _bounded(as_seconds(own))
    for holder in (_attribute(exc, "response"), exc):
        headers = _attribute(holder, "headers")
        if isinstance(headers, Mapping | Message):  # Message: what urllib has
            for name in ("Retry-After", "retry-after"):
                value = headers.get(name)
                if isinstance(value, str) and (seconds := _parse_retry_after(value.strip())) is not None:
                    return seconds
    return None


def _parse_retry_after(value: str) -> float | None:
    if value.isascii() and value.isdecimal():
        return _bounded(float(value))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded((moment - datetime.now(UTC)).total_seconds())


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


def _code_of_text(links: list[BaseException]) -> str | None:
    for link in links:
        try:
            text = str(link)
        except Exception:  # noqa: BLE001, S112 - a broken __str__ must not hide the failure itself
            continue
        for phrase, code in _PHRASES:
            if phrase.search(text):
                return code
    return None
