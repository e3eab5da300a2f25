"""Webhooks that the gateway receives: signed as their senders do, they become runs, once."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cgk_tasks import get_run
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.gateway import application
from cgk_tasks.gateway.request_rate import take_place
from cgk_tasks.inbound.counts import COUNTS, delivery_counts
from cgk_tasks.inbound.sources import all_sources, remove_source
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import add_tenant, registry
from tests.gateway import webhook_secrets
from tests.gateway.gateway_support import served
from tests.gateway.webhook_secrets import SECRETS, STANDARD
from tests.support import signing
from tests.support.waiting import wait_until

ORIGIN = "https://jobs.example.com"


@pytest.fixture(scope="module", autouse=True)
def secrets(database):
    """What is set where the gateway runs, before it starts."""
    from cgk_tasks.config import use_settings

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setenv("CGK_GATEWAY_URL", ORIGIN)
        use_settings(None)
        import_module("tests.gateway.webhook_sources")  # here, for no other gateway of this process has the secrets
        yield
        for source in all_sources():
            remove_source(source.name)
    use_settings(None)


@pytest.fixture(scope="module")
def hooks(secrets, nobody):
    return nobody


def fresh(prefix="msg"):
    return f"{prefix}_{time.monotonic_ns()}"


def posted(hooks, source, body, headers, *, kind="application/json"):
    return hooks.post(f"/v1/webhooks/{source}", content=body, headers={"Content-Type": kind, **headers})


def told(hooks, type_, *, delivery=None, at=None, secret=STANDARD, **fields):
    """A delivery of the source `events`."""
    body = json.dumps({"type": type_, **fields}).encode()
    headers = signing.standard(body, secret, delivery=delivery or fresh(), at=at)
    return posted(hooks, "events", body, headers)


def run_of(answer):
    assert answer.status_code == 202, answer.text
    (run,) = answer.json()["runs"]
    return get_run(run["id"])


def runs_with(key):
    with autocommit() as connection:
        return fetch(connection, "SELECT run_id::text FROM cgk.idempotency_keys WHERE key LIKE %(key)s", {"key": key})


def runs_there_are():
    with autocommit() as connection:
        return fetch(connection, "SELECT count(*) AS n FROM cgk.runs", {})[0]["n"]


# Each scheme


def test_standard_webhooks_become_runs(hooks):
    run = run_of(told(hooks, "echo", text="hello"))
    assert (run.tenant_id, run.event, run.payload["argument"]) == ("acme", "test.behave", "hello")


def test_events_of_stripe_become_runs_and_are_known_by_their_id(hooks):
    body = json.dumps({"id": fresh("evt"), "object": "event"}).encode()
    first, again = (posted(hooks, "stripe", body, signing.stripe(body, "whsec_stripe")) for _ in range(2))
    assert run_of(first).payload["argument"] == json.loads(body)["id"]
    assert (again.status_code, again.json()["outcome"]) == (200, "duplicate")


def test_a_webhook_of_shopify_is_its_shops_tenants(hooks):
    body = b'{"id": 820982911946154508}'
    for shop, tenant in [("acme.myshopify.com", "acme"), ("globex.myshopify.com", "globex")]:
        headers = signing.shopify(body, "shopify secret", delivery=fresh(), shop=shop)
        assert run_of(posted(hooks, "shopify", body, headers)).tenant_id == tenant


def test_a_webhook_of_github_is_of_the_tenant_in_the_path(hooks):
    body = b'{"zen": "Design for failure."}'
    for tenant, secret in [("acme", "secret of acme"), ("acme", "old secret of acme"), ("globex", "secret of globex")]:
        headers = signing.github(body, secret, delivery=fresh())
        run = run_of(posted(hooks, f"github/{tenant}", body, headers))
        assert (run.tenant_id, run.payload["argument"]) == (tenant, body.decode())


@pytest.mark.parametrize("key", ["sig_current", "sig_next"])
def test_a_message_of_qstash_is_an_event(hooks, key):
    body = b'{"action": "echo", "argument": "later"}'
    headers = signing.qstash(body, key, url=f"{ORIGIN}/v1/webhooks/qstash", delivery=fresh())
    assert run_of(posted(hooks, "qstash", body, headers)).payload["argument"] == "later"


def test_a_message_of_qstash_to_another_address_is_refused(hooks):
    headers = signing.qstash(b"{}", "sig_current", url=f"{ORIGIN}/v1/webhooks/events")
    assert posted(hooks, "qstash", b"{}", headers).status_code == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_of_a_clock_is_an_event_once_in_a_minute(hooks, method):
    body = method.encode() if method == "POST" else b""
    headers = {"Authorization": "Bearer 0123456789abcdef", "Content-Type": "text/plain"}
    answers = [hooks.request(method, "/v1/webhooks/clock", content=body, headers=headers) for _ in range(3)]
    # The calls may fall into two minutes.
    assert sum(answer.status_code == 202 for answer in answers) in {1, 2}
    assert {answer.status_code for answer in answers} <= {200, 202}


def test_calls_with_keys_of_their_own_are_events_of_their_own(hooks):
    headers = {"Authorization": "Bearer 0123456789abcdef"}
    keys = [fresh("key") for _ in range(2)]
    answers = [hooks.post("/v1/webhooks/clock", headers=headers | {"Idempotency-Key": key}) for key in keys]
    assert [answer.status_code for answer in answers] == [202, 202]


# Who may not come in


@pytest.mark.parametrize(
    "change",
    [
        {"body": b'{"type": "echo", "text": "other"}'},
        {"webhook-id": "msg_other"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "now"},
    ],
    ids=str,
)
def test_what_was_altered_is_refused_and_nothing_is_sent(hooks, change):
    body, before = b'{"type": "echo", "text": "one"}', runs_there_are()
    headers = signing.standard(body, STANDARD, delivery=fresh())
    answer = posted(hooks, "events", change.pop("body", body), headers | change)
    assert (answer.status_code, answer.json()["code"], runs_there_are()) == (401, "BAD_SIGNATURE", before)
    assert "WWW-Authenticate" not in answer.headers


def test_a_delivery_that_is_played_again_later_is_refused(hooks):
    answer = told(hooks, "echo", at=time.time() - 600)
    assert (answer.status_code, "more than 300 s" in answer.json()["detail"]) == (401, True)


def test_another_tenants_secret_does_not_count(hooks):
    body = b"{}"
    answer = posted(hooks, "github/acme", body, signing.github(body, "secret of globex", delivery=fresh()))
    assert answer.status_code == 401


@pytest.mark.parametrize("tenant", ["initech", "nobody-there"])
def test_a_tenant_without_a_secret_and_one_that_there_is_not_are_refused_alike(hooks, tenant):
    body = b"{}"
    answer = posted(hooks, f"github/{tenant}", body, signing.github(body, "secret of acme", delivery=fresh()))
    assert (answer.status_code, answer.json()["detail"]) == (401, "The signature is not one of this body.")


def test_each_secret_counts_while_it_is_changed(hooks, monkeypatch):
    new = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcw=="
    monkeypatch.setenv("HOOKS_STANDARD", f"{new},{STANDARD}")
    assert [told(hooks, "echo", secret=secret).status_code for secret in (new, STANDARD)] == [202, 202]
    monkeypatch.setenv("HOOKS_STANDARD", new)
    assert told(hooks, "echo", secret=STANDARD).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/v1/webhooks/nobody", "/v1/webhooks/events/acme", "/v1/webhooks/github", "/v1/webhooks/github/No%20Tenant",
     "/v1/webhooks/events%00", "/v1/webhooks/github/%00"],
)  # fmt: skip
def test_a_source_that_there_is_not_is_not_found(hooks, path):
    answer = hooks.post(path, content=b"{}", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("method", "path"), [("GET", "events"), ("HEAD", "events"), ("HEAD", "clock")])
def test_other_methods_are_refused_and_do_nothing(hooks, method, path):
    before = runs_there_are()
    answer = hooks.request(method, f"/v1/webhooks/{path}", headers={"Authorization": "Bearer 0123456789abcdef"})
    assert (answer.status_code, runs_there_are()) == (405, before)


def test_the_platform_receives_no_webhooks(hooks, monkeypatch):
    body = json.dumps({"id": 1}).encode()
    monkeypatch.setitem(webhook_secrets.SHOPS, "us.myshopify.com", "platform")
    headers = signing.shopify(body, "shopify secret", delivery=fresh(), shop="us.myshopify.com")
    assert posted(hooks, "shopify", body, headers).status_code == 403


def test_a_tenant_that_is_not_known_is_refused_without_a_word_on_others(hooks):
    body = b'{"id": 1}'
    headers = signing.shopify(body, "shopify secret", delivery=fresh(), shop="gone.myshopify.com")
    answer = posted(hooks, "shopify", body, headers)
    assert (answer.status_code, answer.json().get("nearest")) == (403, None)


# Once


def test_a_delivery_that_comes_again_makes_no_second_run(hooks):
    delivery = fresh()
    first = told(hooks, "echo", text="once", delivery=delivery)
    again = told(hooks, "echo", text="once", delivery=delivery)
    assert (again.status_code, again.json()["outcome"]) == (200, "duplicate")
    assert again.json()["runs"][0]["id"] == first.json()["runs"][0]["id"]


def test_a_delivery_that_comes_at_several_gateways_at_once_makes_one_run(gateway, hooks, connect):
    delivery = fresh()
    body = json.dumps({"type": "echo", "text": "at once"}).encode()
    headers = signing.standard(body, STANDARD, delivery=delivery)
    with served(application()) as other, ThreadPoolExecutor(8) as pool:
        urls = [gateway, other] * 4
        answers = list(
            pool.map(
                lambda url: (
                    posted(hooks, "events", body, headers)
                    if url == gateway
                    else hooks.post(
                        f"{url}/v1/webhooks/events",
                        content=body,
                        headers={"Content-Type": "application/json", **headers},
                    )
                ),
                urls,
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len(runs_with(f"webhook:events:{delivery}")) == 1


def test_a_delivery_of_which_the_function_makes_something_else_the_second_time_stays_a_duplicate(hooks):
    delivery = fresh()
    first, again = (told(hooks, "changing", delivery=delivery) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()["outcome"]) == (202, 200, "duplicate")
    assert again.json()["runs"][0]["id"] == first.json()["runs"][0]["id"]


def test_deliveries_of_two_sources_with_the_same_id_are_two(hooks):
    delivery = fresh("evt")
    body = json.dumps({"id": delivery}).encode()
    stripe = posted(hooks, "stripe", body, signing.stripe(body, "whsec_stripe"))
    assert (stripe.status_code, told(hooks, "echo", delivery=delivery).status_code) == (202, 202)


# What the function says


def test_several_events_of_a_delivery_are_sent_together(hooks):
    answer = told(hooks, "two", texts=["a", "b"])
    assert [get_run(run["id"]).payload["argument"] for run in answer.json()["runs"]] == ["a", "b"]


def test_of_several_events_none_is_sent_if_one_is_wrong(hooks):
    before = runs_there_are()
    answer = told(hooks, "two", texts=["a", 7])
    assert (answer.status_code, runs_there_are()) == (422, before)


def test_a_model_of_any_event_may_be_returned(hooks):
    assert run_of(told(hooks, "own", tenant="acme")).event == "test.behave"


@pytest.mark.parametrize("type_", ["fails", "wrong", "number", "telemetry", "own"])
def test_what_cannot_be_mapped_is_refused_and_the_log_has_nothing_of_the_body(hooks, type_):
    before = runs_there_are()
    with capture_logs() as lines:
        answer = told(hooks, type_, text="a customer's name", tenant="globex")
    assert (answer.status_code, answer.json()["code"], runs_there_are()) == (422, "WEBHOOK_NOT_MAPPED", before)
    (line,) = [one for one in lines if one["event"] == "webhook_not_mapped"]
    assert line["source"] == "events"
    assert line["where"]
    assert "customer" not in str(lines) + answer.text


def test_a_function_that_expects_another_body_is_refused(hooks):
    body = b'{"no": "type"}'
    answer = posted(hooks, "events", body, signing.standard(body, STANDARD, delivery=fresh()))
    assert answer.status_code == 422


@pytest.mark.parametrize("type_", ["nothing of ours", "two"])
def test_what_is_not_wanted_is_ignored(hooks, type_):
    before = runs_there_are()
    answer = told(hooks, type_, texts=[])
    assert (answer.status_code, answer.json(), runs_there_are()) == (200, {"outcome": "ignored", "runs": []}, before)


def test_a_delivery_of_nobodys_is_ignored(hooks):
    body = b'{"id": 1}'
    headers = signing.shopify(body, "shopify secret", delivery=fresh(), shop="unknown.myshopify.com")
    assert posted(hooks, "shopify", body, headers).json()["outcome"] == "ignored"


def test_a_run_of_a_suspended_tenant_is_accepted_and_held(hooks, monkeypatch):
    tenant = add_tenant("hooksuspended", isolation="search_path").id
    from cgk_tasks.tenancy import suspend_tenant

    suspend_tenant(tenant)
    registry.forget_known()
    monkeypatch.setitem(webhook_secrets.OF_TENANTS, tenant, "secret of it")
    answer = posted(hooks, f"github/{tenant}", b"{}", signing.github(b"{}", "secret of it", delivery=fresh()))
    assert run_of(answer).state == "held"


# Bodies


def test_a_body_that_is_signed_and_no_json_is_refused(hooks):
    body = b"{"
    answer = posted(hooks, "events", body, signing.standard(body, STANDARD, delivery=fresh()))
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_JSON")


def test_a_body_of_another_kind_is_there_as_it_came(hooks):
    body = b"payload=%7B%7D"
    headers = signing.github(body, "secret of acme", delivery=fresh())
    run = run_of(posted(hooks, "github/acme", body, headers, kind="application/x-www-form-urlencoded"))
    assert run.payload["argument"] == "payload=%7B%7D"


def test_a_body_that_is_too_large_is_refused(hooks, setting):
    setting(CGK_GATEWAY_MAX_BODY_BYTES="1000")
    assert told(hooks, "echo", text="x" * 2_000).status_code == 413


def test_too_many_deliveries_of_a_source_at_once_are_sent_away(hooks, setting):
    setting(CGK_GATEWAY_REQUESTS_AT_ONCE="1")
    over = take_place("webhook:events")
    refused = told(hooks, "echo")
    over()
    assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (429, True)
    assert told(hooks, "echo").status_code == 202


@pytest.mark.slow
@given(
    source=st.sampled_from(["events", "stripe", "shopify", "github/acme", "qstash", "clock", "nobody"]),
    headers=st.dictionaries(
        st.sampled_from(
            [
                "webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature", "x-shopify-hmac-sha256",
                "x-hub-signature-256", "upstash-signature", "authorization", "content-type", "idempotency-key",
            ]
        ),
        st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=40),
    ),
    body=st.binary(max_size=60),
    method=st.sampled_from(["POST", "GET"]),
)  # fmt: skip
def test_whatever_comes_the_gateway_does_not_fail(hooks, source, headers, body, method):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = hooks.request(method, f"/v1/webhooks/{source}", content=body, headers=encoded)
    assert answer.status_code in {400, 401, 404, 405}


# Counts and settings


def counted():
    COUNTS.current().write()
    return {(one.source, one.outcome): one.deliveries for one in delivery_counts()}


def test_deliveries_are_counted_by_source_and_outcome(hooks):
    before, delivery = counted(), fresh()
    told(hooks, "echo", delivery=delivery)
    told(hooks, "echo", delivery=delivery)
    told(hooks, "nothing of ours")
    told(hooks, "fails", text="")
    told(hooks, "echo", at=1)
    expected = dict.fromkeys(["accepted", "duplicate", "ignored", "unmapped", "refused"], 1)
    after = counted()
    assert {name: after[key] - before.get(key, 0) for name in expected if (key := ("events", name))} == expected


def test_what_was_counted_comes_on_record_by_itself(hooks):
    def accepted():
        return sum(one.deliveries for one in delivery_counts() if (one.source, one.outcome) == ("stripe", "refused"))

    before = accepted()
    for _ in range(3):
        posted(hooks, "stripe", b"{}", {"Stripe-Signature": "t=1,v1=0"})
    wait_until(lambda: accepted() == before + 3, what="the counts are written")


def test_before_the_table_is_there_deliveries_are_accepted_all_the_same(hooks):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.received_webhooks RENAME TO received_webhooks_away")
    try:
        assert told(hooks, "echo").status_code == 202
        COUNTS.current().write()
        assert delivery_counts() == []
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.received_webhooks_away RENAME TO received_webhooks")


def test_a_gateway_without_the_secret_of_a_source_does_not_start(hooks, monkeypatch):
    monkeypatch.delenv("HOOKS_STRIPE")
    with pytest.raises(ConfigurationError, match="HOOKS_STRIPE"):
        application()
