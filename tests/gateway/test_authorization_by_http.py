"""Who may do what: without a key nothing, with a key what its scopes say, and never anything of another tenant."""

import pytest
from starlette.routing import Route

from cgk_tasks import cancel_run, create_schedule, get_run, send_job
from cgk_tasks.gateway.asgi import ENDPOINTS, SIGNED, STREAMS, make_application
from tests.support import jobs  # noqa: F401 - defines test.behave

PAYLOAD = {"tenantId": "acme", "action": "echo"}
OPEN = {"/v1/health/live", "/v1/health/ready", "/signals/{token}"}
"""What takes no key."""


def waiting(tenant):
    return send_job("test.behave", PAYLOAD | {"tenantId": tenant, "argument": tenant}, queue="nobody-listens").id


def request(client, method, path, run_id, payload=PAYLOAD):
    """A request that its endpoint would serve, with the right scope."""
    url = path.format(event="test.behave", id=run_id, name="answer")
    body = {"json": [{"event": "test.behave", "payload": payload}] if path == "/v1/events" else payload}
    if path.endswith("/replay"):
        body = {}
    if path == "/v1/tokens":
        body = {"json": {"runId": run_id}}
    params = {"wait": 0} if path in STREAMS else {}
    return client.request(method, url, params=params, **(body if method == "POST" else {}))


every_endpoint = pytest.mark.parametrize(
    ("method", "path", "scope"),
    [(method, path, scope or "send:*") for method, path, _handler, scope in ENDPOINTS],
    ids=str,
)
of_a_run = pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, *_ in ENDPOINTS if "{id}" in path], ids=str
)


def test_every_path_takes_a_key_or_a_signature_but_those(database):
    paths = {one.path for one in make_application().routes if isinstance(one, Route)}
    assert paths - {path for _method, path, *_ in (*ENDPOINTS, *SIGNED)} == OPEN


@every_endpoint
def test_without_a_key_nothing_is_served(nobody, method, path, scope):
    refused = request(nobody, method, path, waiting("acme"))
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", "Bearer cgk_0123456789ab_" + "x" * 43, "ü"])
def test_what_is_no_key_opens_nothing(nobody, header):
    assert nobody.get("/v1/runs", headers={b"Authorization": header.encode("latin-1")}).status_code == 401


def test_a_key_in_the_address_opens_nothing(nobody, api):
    secret = api.headers["Authorization"].removeprefix("Bearer ")
    assert nobody.get("/v1/runs", params={"key": secret}).status_code == 401


@every_endpoint
def test_a_key_with_the_scope_alone_is_served(connect, method, path, scope):
    run_id = waiting("acme")
    if path.endswith("/replay"):
        cancel_run(run_id)
    assert request(connect("acme", [scope]), method, path, run_id).status_code in {200, 201, 202}


@every_endpoint
def test_a_key_with_all_other_scopes_is_refused(connect, method, path, scope):
    if path == "/v1/openapi.json":
        return  # for any key
    others = {"send:*", "read", "operate"} - {scope}
    refused = request(connect("acme", sorted(others)), method, path, waiting("acme"))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")


def test_a_key_sends_the_events_of_its_patterns_alone(connect):
    api = connect("acme", ["send:order.*"])
    order = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 5.0}
    assert api.post("/v1/events/order.created", json=order).status_code == 202
    assert api.post("/v1/events/test.behave", json=PAYLOAD).status_code == 403
    refused = api.post("/v1/events", json=[{"event": "order.created", "payload": order},
                                           {"event": "test.behave", "payload": PAYLOAD}])  # fmt: skip
    assert (refused.status_code, refused.json()["item"]) == (403, 1)


@of_a_run
def test_a_run_of_another_tenant_is_as_if_it_were_not(connect, method, path):
    run_id = waiting("globex")
    if path.endswith("/replay"):
        cancel_run(run_id)
    before = get_run(run_id)
    refused = request(connect("acme"), method, path, run_id)
    nothing = request(connect("acme"), method, path, "01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11")
    assert (refused.status_code, refused.json()["code"]) == (404, "RECORD_NOT_FOUND")
    assert refused.json().keys() == nothing.json().keys()
    assert get_run(run_id) == before


def test_a_list_has_no_runs_of_another_tenant(connect):
    mine, other = waiting("initech"), waiting("globex")
    ids = {run["id"] for run in connect("initech").get("/v1/runs", params={"limit": "200"}).json()["runs"]}
    assert (mine in ids, other in ids) == (True, False)


def test_the_page_of_another_tenants_list_shows_none_of_its_runs(connect):
    for _ in range(2):
        waiting("globex")
    key = connect("globex").get("/v1/runs", params={"limit": "1"}).json()["next"]
    assert {run["tenantId"] for run in connect("acme").get("/v1/runs", params={"after": key}).json()["runs"]} <= {
        "acme"
    }


@pytest.mark.parametrize("spelling", [{"tenantId": "globex"}, {"tenant_id": "globex"}])
def test_nothing_is_sent_for_another_tenant(connect, spelling):
    payload = {name: value for name, value in PAYLOAD.items() if name != "tenantId"} | spelling
    api = connect("acme")
    one = api.post("/v1/events/test.behave", json=payload)
    many = api.post("/v1/events", json=[{"event": "test.behave", "payload": payload}])
    assert (one.status_code, many.status_code) == (403, 403)


def test_a_payload_that_names_two_tenants_is_refused(connect):
    payload = PAYLOAD | {"tenant_id": "globex"}
    assert connect("acme").post("/v1/events/test.behave", json=payload).status_code in {403, 422}


def test_schedules_limits_and_usage_are_the_tenants_own(connect):
    create_schedule("globex", "test.behave", "0 7 * * 1", "UTC", {"action": "echo"})
    api = connect("acme")
    assert api.get("/v1/schedules").json()["schedules"] == []
    assert api.get("/v1/limits").json()["tenantId"] == "acme"
    assert api.get("/v1/usage", params={"tenant": "globex"}).status_code == 400


def test_an_idempotency_key_of_another_tenant_gives_nothing_away(connect):
    headers = {"Idempotency-Key": "theirs"}
    theirs = connect("globex").post("/v1/events/test.behave", headers=headers, json=PAYLOAD | {"tenantId": "globex"})
    mine = connect("acme").post("/v1/events/test.behave", headers=headers, json=PAYLOAD)
    assert (mine.status_code, mine.json()["id"] != theirs.json()["id"]) == (202, True)


def test_a_revoked_key_is_refused_at_its_next_request(connect):
    from cgk_tasks.gateway import list_keys, revoke_key

    api = connect("acme")
    assert api.get("/v1/runs").status_code == 200
    prefix = api.headers["Authorization"].removeprefix("Bearer ")[:16]
    revoke_key(next(key.id for key in list_keys("acme") if key.prefix == prefix))
    assert api.get("/v1/runs").status_code == 401


@pytest.mark.parametrize("scopes", [["send:*"], ["send:django.task"], ["send:django.*"]])
def test_an_event_that_names_functions_is_sent_by_no_key(connect, scopes):
    client = connect("acme", scopes)
    payload = {"tenantId": "acme", "task": "os.abort", "args": [], "kwargs": {}, "backend": "default"}
    item = {"event": "django.task", "payload": payload}
    answers = [client.post("/v1/events/django.task", json=payload), client.post("/v1/events", json=[item])]
    assert [(one.status_code, one.json()["code"]) for one in answers] == [(403, "FORBIDDEN")] * 2
    assert "which nobody sends over HTTP" in answers[0].json()["detail"]
