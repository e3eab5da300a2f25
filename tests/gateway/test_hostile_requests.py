"""Requests of somebody who means harm: each has an answer that says what was wrong, and none does anything."""

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from cgk_tasks import cancel_run, send_job
from cgk_tasks.errors import CgkTasksError, ConfigurationError, StoreError
from cgk_tasks.gateway import problems, request_rate
from tests.support import jobs  # noqa: F401 - defines test.behave
from tests.support.waiting import wait_until

EVENT = "/v1/events/test.behave"
PAYLOAD = {"tenantId": "acme", "action": "echo"}
JSON = {"Content-Type": "application/json"}


def exchanged(gateway, data, *, until=b"\r\n\r\n"):
    """What comes back for these bytes."""
    place = urlsplit(gateway)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(data)
        received = b""
        while until not in received and (piece := connection.recv(65_536)):
            received += piece
    return received


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"tenantId": "acme", "tenantId": "globex", "action": "echo"}',
        b'{"tenantId": "acme", "action": NaN}',
        b"[" * 100_000,
        b'{"tenantId":' * 100_000,
        b"\xff\xfe",
        b'"\\ud800"',
        b"9" * 10_000,
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_a_body_that_is_no_json_is_refused(api, body):
    refused = api.post(EVENT, headers=JSON, content=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_JSON")


@pytest.mark.parametrize("body", ["[]", "5", "null", '"text"', "true"])
def test_a_payload_that_is_no_object_is_refused(api, body):
    assert api.post(EVENT, headers=JSON, content=body).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/x-ndjson"},
    ],
    ids=str,
)
def test_a_body_of_another_type_is_refused(api, headers):
    refused = api.post(EVENT, headers=headers, content=b"{}")
    assert (refused.status_code, refused.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_may_be_named_as_http_has_it(api, kind):
    body = b'{"tenantId": "acme", "action": "echo"}'
    assert api.post(EVENT, headers={"Content-Type": kind}, content=body).status_code == 202


def test_a_body_that_is_too_large_is_refused_before_it_is_read(gateway, api):
    head = (
        f"POST {EVENT} HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    )
    assert b" 413 " in exchanged(gateway, head.encode())


def test_a_body_that_does_not_say_how_large_it_is_is_refused_when_it_is_too_large(api, setting):
    setting(CGK_GATEWAY_MAX_BODY_BYTES="10000")
    refused = api.post(EVENT, headers=JSON, content=(b"x" * 1_000 for _ in range(20)))
    assert (refused.status_code, refused.json()["code"]) == (413, "REQUEST_TOO_LARGE")


def test_a_body_that_does_not_go_on_is_given_up(gateway, api, setting):
    setting(CGK_GATEWAY_BODY_SECONDS="0.2")
    head = (
        f"POST {EVENT} HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    assert b" 408 " in exchanged(gateway, head.encode())


def test_a_client_that_leaves_amid_its_body_does_no_harm(gateway, api):
    head = (
        f"POST {EVENT} HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    place = urlsplit(gateway)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(head.encode())
    assert api.post(EVENT, json=PAYLOAD).status_code == 202


@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e%2fruns",
        "test.behave%00",
        "test.behave%0d%0aX-Injected:%20yes",
        "%ff%fe",
        "__class__.__init__",
        "job.nothing",
        "x" * 5_000,
        "order.created'%3B%20DROP%20TABLE%20cgk.runs",
        "{event}",
        "%F0%9F%92%A5.boom",
    ],
)
def test_a_name_that_is_no_events_is_refused(api, name):
    refused = api.post(f"/v1/events/{name}", json=PAYLOAD)
    assert refused.status_code in {400, 404}
    assert "X-Injected" not in refused.headers
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_an_idempotency_key_reaches_no_header_of_the_answer(gateway, api):
    body = b'{"tenantId": "acme", "action": "echo"}'
    data = (
        f"POST {EVENT} HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: a\rX-Injected: yes\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    assert b"X-Injected" not in exchanged(gateway, data + body, until=b"}").partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v2/runs", 404),
        ("GET", "/v1/runs/", 404),
        ("GET", "//v1/runs", 404),
        ("GET", "/v1/../v1/keys", 404),
        ("PUT", "/v1/events", 405),
        ("DELETE", "/v1/runs", 405),
        ("GET", "/v1/events/test.behave", 405),
        ("TRACE", "/v1/runs", 405),
    ],
)
def test_what_there_is_not_is_answered_as_a_problem(api, method, path, status):
    refused = api.request(method, path)
    assert (refused.status_code, refused.headers["Content-Type"]) == (status, "application/problem+json")


def test_the_host_of_a_request_leads_nowhere(api):
    refused = api.get("/v1/runs/", headers={"Host": "evil.example"}, follow_redirects=False)
    assert (refused.status_code, "Location" in refused.headers) == (404, False)


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Content-Encoding"])
def test_a_header_that_decides_is_not_taken_twice(gateway, api, name):
    body = b'{"tenantId": "acme", "action": "echo"}'
    head = (
        f"POST {EVENT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {api.headers['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Encoding: identity\r\n{name}: other\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    assert b" 400 " in exchanged(gateway, head + body)


def test_answers_are_not_kept_and_not_guessed(api):
    answer = api.get("/v1/runs")
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


def test_a_failure_of_the_server_gives_nothing_away(api, monkeypatch):
    def fails(*_args, **_options):
        raise ValueError("the password is hunter2")

    monkeypatch.setattr("cgk_tasks.gateway.runs.find_runs", fails)
    refused = api.get("/v1/runs")
    assert (refused.status_code, refused.json()["code"]) == (500, "CGK_TASKS_ERROR")
    assert "hunter2" not in refused.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreError("connection to server at db.internal failed", hint="Check it"), 503),
        (ConfigurationError("CGK_DATABASE_URL is wrong"), 500),
        (CgkTasksError("inner things"), 500),
    ],
)
def test_an_error_of_the_servers_side_is_told_without_its_text(error, status):
    told = problems.problem(error)
    assert (told["status"], error.text in told["detail"], "hint" in told) == (status, False, False)


def test_postgresql_that_is_away_is_answered_with_503(api, monkeypatch, setting):
    setting(CGK_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    refused = api.get("/v1/runs")
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (503, "STORE_ERROR", "5")
    assert "127.0.0.1" not in refused.text


# Too many


def test_a_key_that_makes_too_many_requests_is_told_when_to_come_back(connect, setting):
    setting(CGK_GATEWAY_REQUESTS_PER_MINUTE="3")
    api = connect("initech")
    statuses = [api.get("/v1/limits").status_code for _ in range(3)]
    refused = api.get("/v1/limits")
    assert (statuses, refused.status_code, refused.json()["code"]) == ([200] * 3, 429, "TOO_MANY_REQUESTS")
    assert 0 < int(refused.headers["Retry-After"]) <= 60


def test_one_key_does_not_use_up_the_requests_of_another(connect, setting):
    setting(CGK_GATEWAY_REQUESTS_PER_MINUTE="1")
    first, second = connect("initech"), connect("initech")
    assert [first.get("/v1/limits").status_code for _ in range(2)] == [200, 429]
    assert second.get("/v1/limits").status_code == 200


def test_a_key_has_so_many_requests_at_once_and_no_more(connect, setting):
    setting(CGK_GATEWAY_REQUESTS_AT_ONCE="2")
    api, other = connect("initech"), connect("initech")
    run_id = send_job("test.behave", PAYLOAD | {"tenantId": "initech"}, queue="nobody-listens").id

    def waited():
        """A request that has got a place: the one below may have it for a moment."""
        answer = api.get(f"/v1/runs/{run_id}", params={"wait": "60"})
        return answer if answer.status_code == 200 else None

    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(wait_until, waited, 120) for _ in range(2)]
        refused = wait_until(lambda: one if (one := api.get("/v1/limits")).status_code == 429 else None)
        assert other.get("/v1/limits").status_code == 200
        cancel_run(run_id)
        assert [wait.result().json()["state"] for wait in waits] == ["cancelled"] * 2
    assert refused.json()["code"] == "TOO_MANY_REQUESTS"
    assert [api.get("/v1/limits").status_code for _ in range(5)] == [200] * 5


def test_without_redis_each_process_counts_and_requests_go_on(connect, setting):
    setting(CGK_GATEWAY_REQUESTS_PER_MINUTE="2", CGK_CACHE_URL="redis://127.0.0.1:9/0")
    api = connect("initech")
    assert [api.get("/v1/limits").status_code for _ in range(3)] == [200, 200, 429]


def test_there_may_be_any_number(connect, setting):
    setting(CGK_GATEWAY_REQUESTS_PER_MINUTE="0")
    assert request_rate.RATE.current().wait_seconds(None) == 0.0


def test_lines_that_come_too_fast_are_waited_for_and_all_sent(connect, monkeypatch):
    from cgk_tasks.errors import RequestRefusedError
    from cgk_tasks.gateway import endpoint

    api, answers = connect("acme"), [None, 0.01, 0.01, None]  # of the request itself, then of its one chunk

    def count(key):
        if (seconds := answers.pop(0)) is not None:
            raise RequestRefusedError("Too many.", "TOO_MANY_REQUESTS", 429, retry_after=seconds)

    monkeypatch.setattr(endpoint, "count_request", count)
    body = b'{"event": "test.behave", "payload": {"tenantId": "acme", "action": "echo"}}\n' * 2
    answer = api.post("/v1/events", headers={"Content-Type": "application/x-ndjson"}, content=body)
    assert (answer.json()["sent"], answers) == (2, [])


# Health


def test_health_takes_no_key(nobody):
    assert [nobody.get(f"/v1/health/{what}").status_code for what in ("live", "ready")] == [200, 200]


def test_a_gateway_without_its_database_lives_and_is_not_ready(nobody, setting):
    setting(CGK_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    assert [nobody.get(f"/v1/health/{what}").status_code for what in ("live", "ready")] == [200, 503]
