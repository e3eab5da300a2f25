"""Which errors pass by themselves, which never do, and how long to wait."""

import errno
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from pathlib import Path

import celery.exceptions
import httpx
import kombu.exceptions
import psycopg
import psycopg_pool
import pydantic
import pytest
import redis
import requests
import sqlalchemy as sa
import sqlalchemy.exc
import urllib3

from cgk_tasks import errors
from cgk_tasks.jobs.classification import (
    PERMANENT_CODES,
    TRANSIENT_CODES,
    Classification,
    classify_error,
    kind_of_code,
)

PLATFORM_PERMANENT = """INVALID_INPUT MISSING_TENANT_ID INVALID_TENANT_ID MISSING_REQUIRED_FIELD INVALID_PAYLOAD
    NOT_CONFIGURED INVALID_CREDENTIALS ACCOUNT_NOT_FOUND ACCOUNT_DISABLED PERMISSION_DENIED UNAUTHORIZED
    INSUFFICIENT_BALANCE DUPLICATE_TRANSACTION ALREADY_PROCESSED INVALID_STATE PAYOUT_ALREADY_COMPLETED
    COMMISSION_ALREADY_MATURED RECORD_NOT_FOUND FOREIGN_KEY_VIOLATION UNIQUE_CONSTRAINT_VIOLATION
    STRIPE_CARD_DECLINED STRIPE_INVALID_ACCOUNT STRIPE_ACCOUNT_CLOSED WISE_INVALID_RECIPIENT
    WISE_BLOCKED_RECIPIENT WISE_UNSUPPORTED_CURRENCY""".split()  # noqa: SIM905
PLATFORM_TRANSIENT = """NETWORK_ERROR TIMEOUT CONNECTION_REFUSED DNS_RESOLUTION_FAILED RATE_LIMITED
    TOO_MANY_REQUESTS THROTTLED SERVICE_UNAVAILABLE BAD_GATEWAY GATEWAY_TIMEOUT INTERNAL_SERVER_ERROR DEADLOCK
    LOCK_TIMEOUT CONNECTION_POOL_EXHAUSTED DATABASE_UNAVAILABLE STRIPE_API_ERROR STRIPE_RATE_LIMIT
    WISE_API_ERROR WISE_RATE_LIMIT WISE_PROCESSING_ERROR""".split()  # noqa: SIM905
UNKNOWN = Classification("unknown", "UNKNOWN_ERROR")


class CodedError(Exception):
    """An exception of a library or an application that carries attributes."""

    def __init__(self, message="failed", **attributes):
        super().__init__(message)
        self.__dict__.update(attributes)


def foreign(qualified_name, *bases, **attributes):
    """An instance of a class that looks like one of a library that is not installed here."""
    module, _, name = qualified_name.rpartition(".")
    cls = type(name, bases or (Exception,), {"__module__": module, **attributes})
    return cls("failed")


def caused(outer, inner):
    outer.__cause__ = inner
    return outer


def kind_and_code(exc):
    found = classify_error(exc)
    return found.kind, found.code


def httpx_status_error(status, headers=None):
    request = httpx.Request("GET", "https://shop.example/orders/429")
    response = httpx.Response(status, headers=headers, request=request)
    with pytest.raises(httpx.HTTPStatusError) as info:
        response.raise_for_status()
    return info.value


# The table of codes


@pytest.mark.parametrize("code", PLATFORM_PERMANENT)
def test_an_exception_with_a_permanent_code_is_permanent(code):
    assert kind_and_code(CodedError(code=code)) == ("permanent", code)


@pytest.mark.parametrize("code", PLATFORM_TRANSIENT)
def test_an_exception_with_a_transient_code_is_transient(code):
    assert kind_and_code(CodedError(code=code)) == ("transient", code)


def test_no_code_is_both():
    assert PERMANENT_CODES.isdisjoint(TRANSIENT_CODES)


def test_the_reference_page_lists_every_code():
    page = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text(encoding="utf-8")
    assert [code for code in sorted(PERMANENT_CODES | TRANSIENT_CODES) if f"`{code}`" not in page] == []


def test_a_code_outside_the_table_says_nothing():
    assert kind_of_code("card_declined") == "unknown"
    assert classify_error(CodedError(code="card_declined")) == UNKNOWN


# Our own errors


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (errors.ConfigurationError("x"), "permanent"),
        (errors.TenantMissingError("x"), "permanent"),
        (errors.InvalidTenantError("X"), "permanent"),
        (errors.UnknownTenantError("x"), "permanent"),
        (errors.TenantContextError("x"), "permanent"),
        (errors.UnknownEventError("x"), "permanent"),
        (errors.PayloadInvalidError("x", []), "permanent"),
        (errors.PayloadTooLargeError("x", 2, 1), "permanent"),
        (errors.InvalidOptionError("x", "y"), "permanent"),
        (errors.IdempotencyConflictError("x", "y", "z"), "permanent"),
        (errors.UnknownRunError("x"), "permanent"),
        (errors.RunStateError("x", "running", "retry"), "permanent"),
        (errors.RunCancelledError("x"), "permanent"),
        (errors.PermanentError("x"), "permanent"),
        (errors.QueueFullError(1), "transient"),
        (errors.QuotaExceededError("acme", 1, 60.0), "transient"),
        (errors.BrokerError("x"), "transient"),
        (errors.JobTimeoutError(1), "transient"),
        (errors.WaitTimeoutError("x", 1), "transient"),
        (errors.TransientError("x"), "transient"),
        (errors.RetryLater(1), "transient"),
        (errors.StoreError("x"), "unknown"),
        (errors.RunFailedError("x", "OWN_CODE", "y"), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_our_own_errors_keep_their_code(exc, kind):
    assert kind_and_code(exc) == (kind, exc.code)


def test_a_job_that_says_permanent_is_believed_whatever_its_code():
    assert kind_and_code(errors.PermanentError("x", "TIMEOUT")) == ("permanent", "TIMEOUT")


def test_a_job_that_says_transient_is_believed_whatever_its_cause():
    exc = caused(errors.TransientError("x", retry_after=7), ValueError("y"))
    assert classify_error(exc) == Classification("transient", "TRANSIENT_ERROR", 7.0)


def test_a_jobs_own_wait_is_not_bounded():
    week = timedelta(weeks=1)
    assert classify_error(errors.TransientError("x", retry_after=week)).retry_after == week.total_seconds()
    assert classify_error(errors.RetryLater(week)).retry_after == week.total_seconds()


def test_a_store_error_is_judged_by_its_cause():
    exc = caused(errors.StoreError("x"), psycopg.errors.DeadlockDetected("y"))
    assert kind_and_code(exc) == ("transient", "DEADLOCK")


# Databases


SQLSTATES = [
    ("40P01", "transient", "DEADLOCK"),
    ("40001", "transient", "DEADLOCK"),
    ("55P03", "transient", "LOCK_TIMEOUT"),
    ("57014", "transient", "TIMEOUT"),
    ("53300", "transient", "CONNECTION_POOL_EXHAUSTED"),
    ("57P01", "transient", "DATABASE_UNAVAILABLE"),
    ("08006", "transient", "DATABASE_UNAVAILABLE"),
    ("53100", "transient", "DATABASE_UNAVAILABLE"),
    ("23505", "permanent", "UNIQUE_CONSTRAINT_VIOLATION"),
    ("23503", "permanent", "FOREIGN_KEY_VIOLATION"),
    ("23514", "permanent", "INVALID_INPUT"),
    ("23502", "permanent", "MISSING_REQUIRED_FIELD"),
    ("22001", "permanent", "INVALID_INPUT"),
    ("42501", "permanent", "PERMISSION_DENIED"),
    ("42P01", "unknown", "SQLSTATE_42P01"),
]


@pytest.mark.parametrize(("sqlstate", "kind", "code"), SQLSTATES)
def test_psycopg_is_judged_by_sqlstate(sqlstate, kind, code):
    assert kind_and_code(psycopg.errors.lookup(sqlstate)("x")) == (kind, code)


@pytest.mark.parametrize(("sqlstate", "kind", "code"), SQLSTATES)
def test_psycopg2_is_judged_by_pgcode(sqlstate, kind, code):
    exc = foreign("psycopg2.OperationalError", pgcode=sqlstate)
    assert kind_and_code(exc) == (kind, code)


@pytest.mark.parametrize(("sqlstate", "kind", "code"), SQLSTATES)
def test_sqlalchemy_is_judged_by_the_drivers_error(sqlstate, kind, code):
    exc = sqlalchemy.exc.DBAPIError.instance("SELECT 1", {}, psycopg.errors.lookup(sqlstate)("x"), psycopg.Error)
    exc.__cause__ = None  # .orig alone must do
    assert kind_and_code(exc) == (kind, code)


def test_a_postgresql_that_is_away_is_transient_through_psycopg():
    with pytest.raises(psycopg.OperationalError) as info:
        psycopg.connect("host=127.0.0.1 port=1 dbname=x", connect_timeout=2)
    assert kind_and_code(info.value) == ("transient", "DATABASE_UNAVAILABLE")


def test_a_postgresql_that_is_away_is_transient_through_sqlalchemy():
    engine = sa.create_engine("postgresql+psycopg://127.0.0.1:1/x")
    with pytest.raises(sqlalchemy.exc.OperationalError) as info:
        engine.connect()
    assert kind_and_code(info.value) == ("transient", "DATABASE_UNAVAILABLE")


@pytest.mark.parametrize(
    "exc",
    [
        sqlalchemy.exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached"),
        psycopg_pool.PoolTimeout("x"),
        psycopg_pool.TooManyRequests("x"),
        foreign("psycopg2.pool.PoolError"),
        redis.exceptions.MaxConnectionsError("x"),
    ],
    ids=lambda exc: f"{type(exc).__module__}.{type(exc).__name__}",
)
def test_an_exhausted_pool_is_transient(exc):
    assert kind_and_code(exc) == ("transient", "CONNECTION_POOL_EXHAUSTED")


# HTTP


HTTP_STATUSES = [
    (400, "unknown", "HTTP_400", None),
    (401, "permanent", "UNAUTHORIZED", None),
    (403, "permanent", "PERMISSION_DENIED", None),
    (404, "permanent", "RECORD_NOT_FOUND", None),
    (408, "transient", "TIMEOUT", None),
    (429, "transient", "RATE_LIMITED", 60.0),
    (500, "transient", "SERVICE_UNAVAILABLE", None),
    (502, "transient", "SERVICE_UNAVAILABLE", None),
    (503, "transient", "SERVICE_UNAVAILABLE", 30.0),
    (504, "transient", "SERVICE_UNAVAILABLE", None),
]
by_status = pytest.mark.parametrize(("status", "kind", "code", "wait"), HTTP_STATUSES)


@by_status
def test_httpx_is_judged_by_status(status, kind, code, wait):
    assert classify_error(httpx_status_error(status)) == Classification(kind, code, wait)


@by_status
def test_requests_is_judged_by_status(status, kind, code, wait):
    response = requests.Response()
    response.status_code = status
    exc = requests.HTTPError("x", response=response)
    assert classify_error(exc) == Classification(kind, code, wait)


@by_status
def test_urllib_is_judged_by_status(status, kind, code, wait):
    exc = urllib.error.HTTPError("https://shop.example", status, "x", Message(), None)
    assert classify_error(exc) == Classification(kind, code, wait)
    exc.close()


@by_status
@pytest.mark.parametrize("attribute", ["status", "status_code", "http_status", "code"])
def test_any_exception_with_a_status_is_judged_by_it(attribute, status, kind, code, wait):
    assert classify_error(CodedError(**{attribute: status})) == Classification(kind, code, wait)


@pytest.mark.parametrize("status", [200, 302, 1213, True, "429"])
def test_what_is_no_error_status_says_nothing(status):
    assert classify_error(CodedError(status=status)) == UNKNOWN


def test_retry_after_in_seconds_is_the_wait():
    assert classify_error(httpx_status_error(429, {"retry-after": "17"})).retry_after == 17.0


def test_retry_after_as_an_http_date_is_the_time_until_then():
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < classify_error(httpx_status_error(503, {"Retry-After": then})).retry_after <= 90


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("0", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("86401", 86_400.0),
        ("9" * 400, 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("soon", 60.0),
        ("-5", 60.0),
        ("", 60.0),
    ],
)
def test_retry_after_is_bounded_to_a_day_and_nonsense_is_passed_over(header, wait):
    assert classify_error(httpx_status_error(429, {"Retry-After": header})).retry_after == wait


def test_retry_after_counts_with_any_5xx():
    assert classify_error(httpx_status_error(502, {"Retry-After": "5"})).retry_after == 5.0


def test_a_retry_after_attribute_of_a_foreign_exception_counts():
    assert classify_error(CodedError(status=429, retry_after=12)).retry_after == 12.0


# Networks


def refused(connect):
    with pytest.raises(Exception) as info:  # each library has its own
        connect()
    return info.value


def test_a_refused_connection_is_found_under_a_real_httpx_error():
    exc = refused(lambda: httpx.get("http://127.0.0.1:1", trust_env=False))
    assert isinstance(exc, httpx.ConnectError)
    assert kind_and_code(exc) == ("transient", "CONNECTION_REFUSED")


def test_a_refused_connection_is_found_under_a_real_requests_error():
    session = requests.Session()
    session.trust_env = False
    exc = refused(lambda: session.get("http://127.0.0.1:1"))
    assert isinstance(exc, requests.ConnectionError)
    assert kind_and_code(exc) == ("transient", "CONNECTION_REFUSED")


def test_a_refused_connection_is_found_under_a_real_urllib_error():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert kind_and_code(refused(lambda: opener.open("http://127.0.0.1:1"))) == (
        "transient",
        "CONNECTION_REFUSED",
    )


def test_a_real_redis_that_is_away_is_transient():
    exc = refused(lambda: redis.Redis(port=1, retry=None).ping())
    assert isinstance(exc, redis.ConnectionError)
    assert classify_error(exc).kind == "transient"


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (ConnectionRefusedError("x"), "CONNECTION_REFUSED"),
        (OSError(errno.ECONNREFUSED, "x"), "CONNECTION_REFUSED"),
        (ConnectionResetError("x"), "NETWORK_ERROR"),
        (BrokenPipeError("x"), "NETWORK_ERROR"),
        (OSError(errno.EHOSTUNREACH, "x"), "NETWORK_ERROR"),
        (OSError(errno.ENETUNREACH, "x"), "NETWORK_ERROR"),
        (OSError(errno.ETIMEDOUT, "x"), "TIMEOUT"),
        (TimeoutError(), "TIMEOUT"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "DNS_RESOLUTION_FAILED"),
        (ssl.SSLError(1, "x"), "NETWORK_ERROR"),
        (http.client.RemoteDisconnected("x"), "NETWORK_ERROR"),
        (httpx.ConnectTimeout("x"), "TIMEOUT"),
        (httpx.ReadTimeout("x"), "TIMEOUT"),
        (httpx.ConnectError("x"), "NETWORK_ERROR"),
        (httpx.RemoteProtocolError("x"), "NETWORK_ERROR"),
        (requests.ConnectTimeout("x"), "TIMEOUT"),
        (requests.ReadTimeout("x"), "TIMEOUT"),
        (requests.ConnectionError("x"), "NETWORK_ERROR"),
        (urllib3.exceptions.ReadTimeoutError(None, "/", "x"), "TIMEOUT"),
        (urllib3.exceptions.NewConnectionError(None, "x"), "NETWORK_ERROR"),
        (urllib3.exceptions.ProtocolError("x"), "NETWORK_ERROR"),
        (
            urllib3.exceptions.NameResolutionError("h", None, socket.gaierror(-2, "x")),
            "DNS_RESOLUTION_FAILED",
        ),
        (foreign("aiohttp.client_exceptions.ClientConnectionError"), "NETWORK_ERROR"),
        (foreign("aiohttp.client_exceptions.ServerTimeoutError"), "TIMEOUT"),
        (foreign("aiohttp.client_exceptions.ClientConnectorDNSError", OSError), "DNS_RESOLUTION_FAILED"),
        (redis.TimeoutError("x"), "TIMEOUT"),
        (redis.ConnectionError("x"), "NETWORK_ERROR"),
        (redis.BusyLoadingError("x"), "SERVICE_UNAVAILABLE"),
        (kombu.exceptions.OperationalError("x"), "NETWORK_ERROR"),
        (celery.exceptions.SoftTimeLimitExceeded(), "TIMEOUT"),
        (celery.exceptions.TimeoutError("x"), "TIMEOUT"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__module__}.{type(value).__name__}",
)
def test_a_failure_of_the_network_is_transient(exc, code):
    assert kind_and_code(exc) == ("transient", code)


def test_a_name_that_does_not_resolve_is_found_under_an_httpx_error():
    exc = caused(httpx.ConnectError("x"), socket.gaierror(-2, "x"))
    assert kind_and_code(exc) == ("transient", "DNS_RESOLUTION_FAILED")


def test_wrong_redis_credentials_are_permanent():
    assert kind_and_code(redis.AuthenticationError("x")) == ("permanent", "INVALID_CREDENTIALS")


# Programs


class Order(pydantic.BaseModel):
    total: int


def test_a_pydantic_validation_error_is_permanent():
    with pytest.raises(pydantic.ValidationError) as info:
        Order.model_validate({"total": "many"})
    assert kind_and_code(info.value) == ("permanent", "INVALID_PAYLOAD")


@pytest.mark.parametrize(
    "exc",
    [
        TypeError("x"),
        AttributeError("x"),
        KeyError("x"),
        ValueError("x"),
        ZeroDivisionError("x"),
        MemoryError(),
        FileNotFoundError(errno.ENOENT, "x"),
        SystemExit(1),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_a_failure_of_the_program_is_unknown(exc):
    assert classify_error(exc) == UNKNOWN


def test_an_exception_that_says_nothing_is_judged_by_its_cause():
    exc = caused(RuntimeError("import failed"), caused(ValueError("x"), httpx_status_error(404)))
    assert kind_and_code(exc) == ("permanent", "RECORD_NOT_FOUND")


def test_an_exception_that_only_was_handled_before_is_no_cause():
    exc = ValueError("x")
    exc.__context__ = ConnectionRefusedError()
    assert classify_error(exc) == UNKNOWN


def test_a_ring_of_causes_ends():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert classify_error(one) == UNKNOWN


def test_a_group_with_a_permanent_member_is_permanent():
    group = ExceptionGroup("x", [TimeoutError(), errors.PermanentError("x")])
    assert kind_and_code(group) == ("permanent", "PERMANENT_ERROR")


def test_a_group_waits_as_long_as_its_most_patient_member():
    group = ExceptionGroup("x", [TypeError(), TimeoutError(), httpx_status_error(429), CodedError(status=503)])
    assert classify_error(group) == Classification("transient", "TIMEOUT", 60.0)


class HostileError(Exception):
    """Everything about it raises."""

    @property
    def response(self):
        raise RuntimeError("no response yet")

    def __str__(self):
        raise RuntimeError("no text")


def test_an_exception_whose_own_attributes_raise_is_still_classified():
    assert classify_error(HostileError()) == UNKNOWN


# Messages


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("connect to 10.0.0.7:5432 failed: Connection refused", "CONNECTION_REFUSED"),
        ("ERROR: deadlock detected", "DEADLOCK"),
        ("could not serialize access due to concurrent update", "DEADLOCK"),
        ("canceling statement due to lock timeout", "LOCK_TIMEOUT"),
        ('could not translate host name "db" to address', "DNS_RESOLUTION_FAILED"),
        ("[Errno -3] Temporary failure in name resolution", "DNS_RESOLUTION_FAILED"),
        ("FATAL: sorry, too many clients already", "CONNECTION_POOL_EXHAUSTED"),
        ("FATAL: the database system is starting up", "DATABASE_UNAVAILABLE"),
        ("Read timed out. (read timeout=5)", "TIMEOUT"),
        ("Connection reset by peer", "NETWORK_ERROR"),
    ],
)
def test_an_unmistakable_phrase_is_transient(message, code):
    assert kind_and_code(RuntimeError(message)) == ("transient", code)


@pytest.mark.parametrize(
    "message",
    [
        "the recipient is on the block list",
        "could not read block 7",
        "unlock the account first",
        "order 429 has no items",
        "order 1429 of tenant 503 was not paid",
        "Error 404",
        "error 500: cart is empty",
        "timeout must be a positive number",
        "a disconnection refusedly followed",
        "unauthorized discount",
        "duplicate of order 7",
        'duplicate key value violates unique constraint "orders_pkey"',
    ],
)
def test_words_and_numbers_in_a_message_say_nothing(message):
    assert classify_error(RuntimeError(message)) == UNKNOWN


def test_the_status_goes_before_the_message():
    exc = CodedError("upstream said: connection refused", status=404)
    assert kind_and_code(exc) == ("permanent", "RECORD_NOT_FOUND")


def test_an_explicit_code_goes_before_the_type():
    exc = TimeoutError("x")
    exc.code = "ACCOUNT_DISABLED"
    assert kind_and_code(exc) == ("permanent", "ACCOUNT_DISABLED")


def test_the_type_goes_before_the_status():
    assert kind_and_code(foreign("stripe._error.CardError", http_status=402)) == (
        "permanent",
        "STRIPE_CARD_DECLINED",
    )
