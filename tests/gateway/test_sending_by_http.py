"""Sends by HTTP: what `send_job` and `send_jobs` do, for programs in any language."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from cgk_tasks import get_run, send_job, set_tenant_limits
from cgk_tasks.gateway import idempotency, list_keys, revoke_key
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support import jobs  # noqa: F401 - defines test.behave
from tests.support.waiting import wait_until

EVENT = "/v1/events/test.behave"
PAYLOAD = {"tenantId": "acme", "action": "echo", "argument": "hello"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def item(argument="hello", tenant="acme", **more):
    return {"event": "test.behave", "payload": {"tenantId": tenant, "action": "echo", "argument": argument}, **more}


def lines(*items):
    return "".join(f"{json.dumps(one)}\n" for one in items).encode()


def runs_with(argument):
    with autocommit() as connection:
        payload = "convert_from(cgk.whole_payload(id, sealed_payload), 'UTF8')"
        sql = f"SELECT count(*) AS n FROM cgk.runs WHERE {payload} LIKE %(like)s"
        return fetch(connection, sql, {"like": f'%"{argument}"%'})[0]["n"]


def test_an_event_becomes_a_run(api):
    sent = api.post(EVENT, json=PAYLOAD)
    run = get_run(sent.json()["id"])
    assert (sent.status_code, sent.json()["outcome"]) == (202, "accepted")
    assert (run.tenant_id, run.event, run.payload["argument"]) == ("acme", "test.behave", "hello")


def test_the_answer_says_where_the_run_is(api):
    sent = api.post(EVENT, json=PAYLOAD)
    assert api.get(sent.headers["Location"]).json()["id"] == sent.json()["id"]


def test_a_second_spelling_of_an_event_is_that_event(api):
    from cgk_tasks.events.registry import ALIASES

    spelling, name = next((alias, name) for alias, name in ALIASES.items())
    assert api.post(f"/v1/events/{spelling}", json={"tenantId": "acme"}).json().get("code") != "UNKNOWN_EVENT", name


def test_a_run_is_delayed(api):
    sent = api.post(EVENT, params={"delay": "3600"}, json=PAYLOAD).json()
    run = get_run(sent["id"])
    assert run.state == "scheduled"
    assert run.run_at - run.created_at == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=30))


def test_a_run_is_sent_for_a_time_with_attempts_a_priority_and_an_end(api):
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    given = {
        "runAt": due.isoformat(),
        "maxAttempts": "7",
        "priority": "9",
        "expires": f"{due.year + 1}-01-01T00:00:00Z",
    }
    run = get_run(api.post(EVENT, params=given, json=PAYLOAD).json()["id"])
    assert (run.run_at, run.max_attempts, run.priority) == (due, 7, 9)
    assert run.expires_at == datetime(due.year + 1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"delay": "soon"}, 400),
        ({"delay": "nan"}, 422),
        ({"delay": "-1"}, 422),
        ({"delay": "1e999"}, 422),
        ({"runAt": "2026-13-01T00:00:00Z"}, 400),
        ({"runAt": "2027-01-01T00:00:00"}, 400),
        ({"runAt": "0001-01-01T00:00:00+14:00"}, 400),
        ({"delay": "1", "runAt": "2027-01-01T00:00:00Z"}, 422),
        ({"priority": "10"}, 422),
        ({"priority": "¹"}, 400),
        ({"maxAttempts": "0"}, 422),
        ({"queue": "fast"}, 400),
        ({"Delay": "1"}, 400),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(api, given, status):
    assert api.post(EVENT, params=given, json=PAYLOAD).status_code == status


def test_a_wrong_option_is_named_as_the_wire_has_it(api):
    assert api.post(EVENT, params={"maxAttempts": "0"}, json=PAYLOAD).json()["option"] == "maxAttempts"


def test_a_misspelt_option_is_told_the_right_one(api):
    assert "maxAttempts" in api.post(EVENT, params={"maxAttemps": "1"}, json=PAYLOAD).json()["hint"]


def test_an_unknown_event_has_the_nearest_name(api):
    refused = api.post("/v1/events/order.craeted", json=PAYLOAD)
    assert refused.status_code == 404
    assert (refused.json()["code"], refused.json()["nearest"]) == ("UNKNOWN_EVENT", "order.created")


def test_each_fault_of_a_payload_is_told(api):
    refused = api.post(EVENT, json={"tenantId": "acme", "argument": 5, "colour": "red"})
    assert refused.status_code == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "INVALID_PAYLOAD"
    assert len(refused.json()["problems"]) == 3


def test_a_payload_without_a_tenant_is_refused(api):
    refused = api.post(EVENT, json={"action": "echo"})
    assert (refused.status_code, refused.json()["code"]) == (422, "MISSING_TENANT_ID")


def test_a_payload_that_is_too_large_is_refused(api):
    refused = api.post(EVENT, json=PAYLOAD | {"argument": "x" * 300_000})
    assert (refused.status_code, refused.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_suspended_tenant_sends_nothing(connect, new_tenant):
    api = connect(new_tenant)
    suspend_tenant(new_tenant)
    refused = api.post(EVENT, json=PAYLOAD | {"tenantId": new_tenant})
    many = api.post("/v1/events", json=[item(tenant=new_tenant)])
    assert (refused.status_code, refused.json()["code"], many.status_code) == (403, "TENANT_SUSPENDED", 403)
    resume_tenant(new_tenant)
    assert api.post(EVENT, json=PAYLOAD | {"tenantId": new_tenant}).status_code == 202


def test_a_quota_that_is_used_up_says_when_to_come_back(connect, new_tenant):
    set_tenant_limits(new_tenant, daily_runs=1)
    api, payload = connect(new_tenant), PAYLOAD | {"tenantId": new_tenant}

    def refused():
        answer = api.post(EVENT, json=payload)
        return answer if answer.status_code == 429 else None

    answer = wait_until(refused, what="the limit counts")
    assert answer.json()["code"] == "QUOTA_EXCEEDED"
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400


# The same request again


def test_a_request_that_comes_again_with_its_key_makes_one_run(api):
    sends = [api.post(EVENT, headers={"Idempotency-Key": "order-7"}, json=PAYLOAD).json() for _ in range(2)]
    assert sends[0] == sends[1]


def test_a_key_belongs_to_one_payload(api):
    api.post(EVENT, headers={"Idempotency-Key": "order-8"}, json=PAYLOAD)
    refused = api.post(EVENT, headers={"Idempotency-Key": "order-8"}, json=PAYLOAD | {"argument": "other"})
    assert (refused.status_code, refused.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


def test_the_order_of_names_in_a_payload_does_not_count(api):
    backwards = dict(reversed(PAYLOAD.items()))
    sends = [api.post(EVENT, headers={"Idempotency-Key": "order-9"}, json=one).json() for one in (PAYLOAD, backwards)]
    assert sends[0] == sends[1]


def test_quotes_around_a_key_are_not_part_of_it(api):
    sends = [
        api.post(EVENT, headers={"Idempotency-Key": key}, json=PAYLOAD).json() for key in ("order-10", '"order-10"')
    ]
    assert sends[0] == sends[1]


def test_a_key_is_that_of_send_job(api):
    earlier = send_job("test.behave", PAYLOAD, idempotency_key="order-11")
    again = api.post(EVENT, headers={"Idempotency-Key": "order-11"}, json=PAYLOAD)
    assert (again.status_code, again.json()) == (200, {"id": earlier.id, "outcome": "deduplicated"})


def test_a_key_of_send_job_with_another_payload_is_a_conflict(api):
    send_job("test.behave", PAYLOAD, idempotency_key="order-12")
    refused = api.post(EVENT, headers={"Idempotency-Key": "order-12"}, json=PAYLOAD | {"argument": "other"})
    assert (refused.status_code, refused.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


def test_two_tenants_may_use_one_key(api, connect):
    headers = {"Idempotency-Key": "order-13"}
    first = api.post(EVENT, headers=headers, json=PAYLOAD).json()
    second = connect("globex").post(EVENT, headers=headers, json=PAYLOAD | {"tenantId": "globex"}).json()
    assert first["id"] != second["id"]


def test_requests_with_one_key_at_the_same_time_make_one_run(api):
    def send(_number):
        return api.post(EVENT, headers={"Idempotency-Key": "order-14"}, json=PAYLOAD | {"argument": "at-once"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert runs_with("at-once") == 1


def begun_elsewhere(key, body, locked="1 minute"):
    """As another gateway leaves it that has begun this request, and has not answered."""
    import hashlib

    asked = ["POST", EVENT, [], body]
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.api_requests (tenant_id, key, fingerprint, holder, locked_until, expires_at)"
            " VALUES ('acme', %s, %s, gen_random_uuid(), now() + %s::interval, now() + interval '1 day')",
            (key, fingerprint, locked),
        )


def test_a_request_that_is_in_progress_elsewhere_is_not_made_again(api):
    begun_elsewhere("order-15", PAYLOAD)
    refused = api.post(EVENT, headers={"Idempotency-Key": "order-15"}, json=PAYLOAD)
    assert (refused.status_code, refused.json()["code"]) == (409, "REQUEST_IN_PROGRESS")
    assert refused.headers["Retry-After"] == "1"


def test_a_request_whose_gateway_has_died_may_be_made_again(api):
    begun_elsewhere("order-16", PAYLOAD, locked="-1 second")
    assert api.post(EVENT, headers={"Idempotency-Key": "order-16"}, json=PAYLOAD).status_code == 202


def test_a_request_that_was_refused_may_be_corrected_with_the_same_key(api):
    headers = {"Idempotency-Key": "order-17"}
    assert api.post(EVENT, params={"priority": "10"}, headers=headers, json=PAYLOAD).status_code == 422
    assert api.post(EVENT, params={"priority": "9"}, headers=headers, json=PAYLOAD).status_code == 202


def test_a_key_is_forgotten_after_its_time(api, monkeypatch):
    headers = {"Idempotency-Key": "order-18"}
    api.post(EVENT, headers=headers, json=PAYLOAD)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.api_requests SET expires_at = now() WHERE key = 'order-18'")
    monkeypatch.setattr(idempotency._FORGETTING.current(), "again_at", 0.0)
    api.post(EVENT, headers={"Idempotency-Key": "order-19"}, json=PAYLOAD)
    with autocommit() as connection:
        assert fetch(connection, "SELECT 1 FROM cgk.api_requests WHERE key = 'order-18'") == []


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb"])
def test_a_key_that_cannot_be_is_refused(api, key):
    assert api.post(EVENT, headers={"Idempotency-Key": key}, json=PAYLOAD).status_code == 400


# Many


def test_many_events_are_sent_in_one_request(api):
    sent = api.post("/v1/events", json=[item("one"), item("two"), item("three", options={"delay": 60})])
    runs = [get_run(run["id"]) for run in sent.json()["runs"]]
    assert (sent.status_code, [run.payload["argument"] for run in runs]) == (202, ["one", "two", "three"])
    assert [run.state == "scheduled" for run in runs] == [False, False, True]


def test_of_many_events_all_or_none_are_sent(api):
    refused = api.post("/v1/events", json=[item("not-sent"), {"event": "order.craeted", "payload": {}}])
    assert (refused.status_code, refused.json()["item"], runs_with("not-sent")) == (404, 1, 0)


def test_many_events_that_come_again_with_their_key_are_sent_once(api):
    sends = [
        api.post("/v1/events", headers={"Idempotency-Key": "many-1"}, json=[item("a"), item("b")]).json()
        for _ in range(2)
    ]
    assert sends[0] == sends[1]


def test_a_key_of_many_events_belongs_to_those_alone(api):
    api.post("/v1/events", headers={"Idempotency-Key": "many-2"}, json=[item("a")])
    refused = api.post("/v1/events", headers={"Idempotency-Key": "many-2"}, json=[item("a"), item("b")])
    assert refused.status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        "text",
        [5],
        [{"event": 5, "payload": {}}],
        [item(options=[])],
        [item(options={"queue": "fast"})],
        [item(options={"idempotencyKey": 5})],
        [item(extra=1)],
        [item() for _ in range(10_001)],
    ],
    ids=lambda body: str(body)[:40],
)
def test_what_is_no_array_of_items_is_refused(api, body):
    assert api.post("/v1/events", json=body).status_code in {400, 422}


@pytest.mark.parametrize("payload", [None, [], 5, "text"])
def test_a_payload_is_an_object(api, payload):
    assert api.post("/v1/events", json=[{"event": "test.behave", "payload": payload}]).status_code == 422


# Lines


def chunks_of(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


def test_lines_are_sent_chunk_by_chunk(api):
    body = lines(*(item(f"line-{number}") for number in range(2_500)))
    answer = api.post("/v1/events", headers=NDJSON, content=body)
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert [(chunk["firstLine"], chunk["sent"]) for chunk in chunks_of(answer)] == [
        (0, 1000),
        (1000, 1000),
        (2000, 500),
    ]


@contextmanager
def half_sent(gateway, api):
    """A request whose first chunk is answered, and whose next line goes on; gives what reads the answer to it."""
    host = urlsplit(gateway)
    body = lines(*(item("early") for _ in range(1_001)))
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n"
        "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    with socket.create_connection((host.hostname, host.port), timeout=60) as connection:
        connection.sendall(head + b"%x\r\n%s\r\n" % (len(body), body))
        received = b""
        while b'"sent":1000' not in received:
            received += connection.recv(65_536)

        def last_answer():
            connection.sendall(b"0\r\n\r\n")
            rest, begin = b"", b'{"firstLine":1000'
            while b"\r\n0\r\n" not in rest:
                rest += connection.recv(65_536)
            return json.loads(begin + rest.partition(begin)[2].partition(b"\n")[0])

        yield last_answer


def test_a_chunk_is_answered_before_the_request_has_ended(gateway, api):
    with half_sent(gateway, api) as last_answer:
        assert last_answer()["sent"] == 1


def test_a_key_that_is_revoked_sends_no_further_chunk(gateway, connect):
    api = connect()
    with half_sent(gateway, api) as last_answer:
        prefix = api.headers["Authorization"].removeprefix("Bearer ")[:16]
        revoke_key(next(key.id for key in list_keys("acme") if key.prefix == prefix))
        answer = last_answer()
    assert (answer["firstLine"], answer["sent"], answer["problem"]["code"]) == (1000, 0, "UNAUTHORIZED")


def test_a_wrong_line_refuses_its_chunk_and_no_other(api):
    items = [item(f"chunked-{number}") for number in range(1_002)]
    items[3] = {"event": "order.craeted", "payload": {}}
    first, second = chunks_of(api.post("/v1/events", headers=NDJSON, content=lines(*items)))
    assert (first["sent"], first["problem"]["item"], first["problem"]["code"]) == (0, 3, "UNKNOWN_EVENT")
    assert (second["firstLine"], second["sent"], runs_with("chunked-4")) == (1000, 2, 0)


def test_a_line_that_is_no_json_is_told_by_its_number(api):
    body = lines(item()) + b"\n{oops\n" + lines(item())
    (chunk,) = chunks_of(api.post("/v1/events", headers=NDJSON, content=body))
    assert (chunk["sent"], chunk["problem"]["item"], chunk["problem"]["code"]) == (0, 2, "INVALID_JSON")


def test_empty_lines_are_left_out_and_the_last_needs_no_end(api):
    body = b"\n" + lines(item()) + b"\r\n" + lines(item()).rstrip(b"\n")
    (chunk,) = chunks_of(api.post("/v1/events", headers=NDJSON, content=body))
    assert chunk["sent"] == 2


def test_lines_of_another_tenant_are_refused(api):
    (chunk,) = chunks_of(api.post("/v1/events", headers=NDJSON, content=lines(item(), item(tenant="globex"))))
    assert (chunk["sent"], chunk["problem"]["code"], chunk["problem"]["item"]) == (0, "FORBIDDEN", 1)


def test_lines_that_come_again_with_their_key_are_sent_once(api):
    body, headers = lines(item("again-1"), item("again-2")), NDJSON | {"Idempotency-Key": "lines-1"}
    ids = [[run["id"] for run in chunks_of(api.post("/v1/events", headers=headers, content=body))[0]["runs"]]
           for _ in range(2)]  # fmt: skip
    assert ids[0] == ids[1]
    assert runs_with("again-1") == 1


def test_no_lines_are_no_answer(api):
    answer = api.post("/v1/events", headers=NDJSON, content=b"")
    assert (answer.status_code, answer.text) == (200, "")


def test_a_line_that_is_larger_than_a_chunk_ends_the_request(api, setting):
    setting(CGK_GATEWAY_MAX_BODY_BYTES="10000")
    body = lines(item("small")) + b'{"event": "' + b"x" * 50_000
    answer = chunks_of(api.post("/v1/events", headers=NDJSON, content=body))
    assert answer[-1]["problem"]["code"] == "REQUEST_TOO_LARGE"


def test_telemetry_is_sent_and_has_no_place(api):
    def send():
        answer = api.post("/v1/events/analytics.page_view", json={"tenantId": "acme", "url": "/"})
        return None if answer.status_code == 503 else answer  # a busy machine: the broker took longer than a send waits

    sent = wait_until(send)
    assert (sent.status_code, "Location" in sent.headers) == (202, False), sent.text
