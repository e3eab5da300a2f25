"""What goes out to Inngest and Trigger.dev, to the byte where it matters, and what happens when they fail.

The other side is a stand-in on loopback that takes only the documented requests (tests/support/hosted_server.py).
"""

import logging
import pickle
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

import tests.conformance.jobs  # noqa: F401 - the stand-ins run them
from cgk_tasks import SendItem, SendOptions, create_job_client
from cgk_tasks.config import use_settings
from cgk_tasks.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    InvalidOptionError,
    ProviderError,
    TenantContextError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.jobs.classification import classify_error
from tests.conformance.jobs import Act, Edited, Nobody
from tests.support.hosted_server import (
    EVENT_KEY,
    SIGNING_KEY,
    TRIGGER_KEY,
    Inngest,
    TriggerDev,
    after_work,
    disconnecting,
    failing,
    hosted_server,
    settings_of,
)

SECRETS = (TRIGGER_KEY, EVENT_KEY, SIGNING_KEY)
BOTH = pytest.mark.parametrize("kind", [Inngest, TriggerDev])
HELLO = Act(tenant_id="acme", action="echo", argument="hello")


@pytest.fixture
def connect(monkeypatch):
    """`client, server = connect(Inngest)`; further settings by keyword. No database is configured."""
    opened = []

    def connect(kind, **settings):
        server = hosted_server(kind)
        system = server.__enter__()
        opened.append(server)
        for name, value in {**settings_of(system), "CGK_PROVIDER_TIMEOUT_SECONDS": "30", **settings}.items():
            monkeypatch.setenv(name, value)
        use_settings(None)
        client = create_job_client()
        opened.append(client)
        return client, system

    for name in ("CGK_DATABASE_URL", "CGK_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    yield connect
    for one in reversed(opened):
        one.__exit__(None, None, None) if hasattr(one, "__exit__") else one.close()
    monkeypatch.undo()
    use_settings(None)


# What is sent


def test_a_jobs_ttl_goes_along_where_the_system_can_keep_it_and_its_rules_stay_ours(connect):
    client, server = connect(TriggerDev)
    handles = [client.send(Edited(tenant_id="acme", doc_id="d")) for _ in range(2)]
    assert [handle.outcome for handle in handles] == ["accepted", "accepted"]
    _method, _path, _headers, body = server.requests[0]
    assert body["options"]["ttl"] in {59, 60}  # whole seconds


def test_where_it_cannot_the_event_is_sent_without_it(connect):
    client, _ = connect(Inngest)
    assert client.send(Edited(tenant_id="acme", doc_id="d")).outcome == "accepted"


def test_an_event_triggers_the_task_of_its_name(connect):
    client, server = connect(TriggerDev)
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    client.send(
        HELLO, run_at=due, max_attempts=7, queue="mails", expires=due + timedelta(seconds=90), idempotency_key="k"
    )
    method, path, headers, body = server.requests[0]
    assert (method, path, headers["authorization"]) == (
        "POST", "/api/v1/tasks/conformance.act/trigger", f"Bearer {TRIGGER_KEY}",
    )  # fmt: skip
    assert body == {
        "payload": {"tenantId": "acme", "action": "echo", "argument": "hello"},
        "options": {
            "tags": ["tenant:acme"], "concurrencyKey": "acme", "idempotencyKey": "acme:k",
            "idempotencyKeyTTL": "86400s",
            "delay": due.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "ttl": 90, "maxAttempts": 7,
            "queue": {"name": "mails"},
        },
    }  # fmt: skip


def test_an_event_goes_to_the_event_api(connect):
    client, server = connect(Inngest)
    due = datetime.now(UTC) + timedelta(hours=1)
    client.send(HELLO, run_at=due)
    method, path, headers, body = server.requests[0]
    assert (method, path, "authorization" in headers) == ("POST", f"/e/{EVENT_KEY}", False)
    assert [set(one) for one in body] == [{"id", "name", "data", "ts"}]
    assert (body[0]["name"], body[0]["data"]["tenantId"], body[0]["ts"]) == (
        "conformance.act", "acme", int(due.timestamp() * 1000),
    )  # fmt: skip


def test_an_idempotency_key_is_the_id_of_the_event_for_its_tenant_alone(connect):
    client, server = connect(Inngest)
    for tenant in ("acme", "globex"):
        client.send(Act(tenant_id=tenant, action="echo"), idempotency_key="k")
    ids = [body[0]["id"] for body in server.bodies()]
    assert (len(set(ids)), [bool(re.fullmatch(r"[0-9a-f]{64}", one)) for one in ids]) == (2, [True, True])


def test_a_payload_goes_out_as_it_was_validated(connect):
    client, server = connect(TriggerDev)
    client.send("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97})
    assert server.bodies()[0]["payload"]["totalAmount"] == 59.97


def test_limits_of_queues_can_count_for_all_tenants_together(connect):
    _client, server = connect(TriggerDev)
    client = create_job_client("trigger.dev", concurrency_per_tenant=False)
    client.send(HELLO)
    client.close()
    assert "concurrencyKey" not in server.bodies()[0]["options"]


@BOTH
def test_a_batch_is_split_into_requests_that_the_system_takes(connect, kind):
    client, server = connect(kind)
    handles = client.send_batch([Nobody(tenant_id="acme")] * 1_001)
    assert len({handle.id for handle in handles}) == 1_001
    assert [len(body if kind is Inngest else body["items"]) for body in server.bodies()] == (
        [1_000, 1] if kind is Inngest else [500, 500, 1]
    )


@BOTH
def test_a_batch_of_large_payloads_is_split_by_size(connect, kind):
    client, server = connect(kind)
    client.send_batch([Act(tenant_id="acme", action="echo", argument="x" * 250_000)] * 10)
    assert 1 < len(server.requests) < 10


# What they cannot do


@BOTH
def test_a_session_is_refused_because_the_system_cannot_join_its_transaction(connect, kind):
    client, server = connect(kind)
    with pytest.raises(InvalidOptionError, match=r"even if your transaction is rolled back.*after the commit"):
        client.send(HELLO, session=Session())
    assert server.requests == []


def test_an_expiry_that_inngest_could_not_keep_is_refused(connect):
    client, _server = connect(Inngest)
    with pytest.raises(InvalidOptionError, match=r"timeouts\.start"):
        client.send(HELLO, expires=60)


def test_an_expiry_before_the_run_is_due_is_refused(connect):
    client, _server = connect(TriggerDev)
    with pytest.raises(InvalidOptionError, match="before the run is due"):
        client.send(HELLO, delay=60, expires=5)


@BOTH
def test_an_option_that_only_tunes_is_left_out_with_one_warning(connect, kind):
    client, _server = connect(kind)
    with capture_logs() as lines:
        for _ in range(2):
            client.send(HELLO, priority=9)
    assert [(line["event"], line["option"]) for line in lines] == [("option_left_out", "priority")]


@BOTH
def test_a_handler_is_refused_because_nothing_would_call_it(connect, kind):
    client, _server = connect(kind)
    with pytest.raises(ConfigurationError, match="runs the functions of its own project"):
        client.register_handler("conformance.nobody", lambda ctx: None)


@BOTH
def test_without_a_database_every_well_formed_tenant_is_one(connect, kind):
    client, _server = connect(kind)
    assert client.trigger_and_wait(Act(tenant_id="whoever", action="echo", argument="x")).unwrap() == "x"


def test_with_a_database_only_registered_and_active_tenants_are_sent_for(connect, database):
    from cgk_tasks.tenancy import add_tenant, suspend_tenant

    client, server = connect(TriggerDev, CGK_DATABASE_URL=database)
    add_tenant("sleepy")
    suspend_tenant("sleepy")
    with pytest.raises(UnknownTenantError):
        client.send(Act(tenant_id="nobody", action="echo"))
    with pytest.raises(TenantContextError, match="cannot hold its runs back"):
        client.send(Act(tenant_id="sleepy", action="echo"))
    assert server.requests == []


def test_an_inngest_event_that_starts_nothing_stays_pending(connect):
    client, _server = connect(Inngest)
    handle = client.send(Nobody(tenant_id="acme"))
    assert client.get_run_status(handle.id).state == "pending"
    with pytest.raises(ProviderError, match="nothing to cancel yet"):
        client.cancel(handle.id)


def test_a_task_that_trigger_dev_does_not_have_yet_is_held(connect):
    client, _server = connect(TriggerDev)
    handle = client.send(Nobody(tenant_id="acme"))
    client.trigger_and_wait(HELLO)
    assert client.get_run_status(handle.id).state == "held"


@BOTH
@pytest.mark.parametrize(
    "run_id", ["", "../runs", "run_1/../../x", "01HZZ", "run_ü", "0198c0de-0000-7000-8000-000000000000"]
)
def test_an_id_of_another_form_is_unknown_and_never_sent(connect, kind, run_id):
    client, server = connect(kind)
    for action in (client.get_run_status, client.cancel, client.retry):
        with pytest.raises(UnknownRunError):
            action(run_id)
    assert server.requests == []


# When they fail


@BOTH
@pytest.mark.parametrize("fault", [disconnecting, failing(503), failing(500), failing(429), failing(408)])
def test_a_passing_fault_is_tried_again(connect, kind, fault):
    client, server = connect(kind)
    server.faults = [fault, fault]
    assert client.send(HELLO).deduplicated is False
    assert len(server.requests) == 3


@BOTH
def test_a_send_whose_answer_was_lost_is_one_run(connect, kind):
    client, server = connect(kind)
    path = f"/e/{EVENT_KEY}" if kind is Inngest else "/api/v1/tasks/conformance.act/trigger"
    server.faults = [after_work(server, "POST", path, disconnecting)]
    handle = client.send(HELLO)
    assert (len(server.requests), handle.deduplicated) == (2, False)
    assert len(server.engine.provider._runs) == 1
    assert client.trigger_and_wait(HELLO).success
    assert client.get_run_status(handle.id).state in {"pending", "running", "completed"}


@BOTH
def test_a_wait_that_the_system_asks_for_is_kept(connect, kind):
    client, server = connect(kind)
    server.faults = [failing(429, retry_after="1")]
    begun = datetime.now(UTC)
    client.send(HELLO)
    assert timedelta(seconds=0.95) < datetime.now(UTC) - begun < timedelta(seconds=3)


@BOTH
def test_a_longer_wait_than_there_is_time_for_is_left_to_the_caller(connect, kind):
    client, server = connect(kind)
    server.faults = [failing(429, retry_after="60")] * 9
    with pytest.raises(ProviderError, match="more slowly") as caught:
        client.send(HELLO)
    found = classify_error(caught.value)
    assert (found.kind, found.code, found.retry_after, len(server.requests)) == ("transient", "RATE_LIMITED", 60, 1)


@BOTH
def test_a_silent_system_is_given_up_in_time(connect, kind):
    client, server = connect(kind, CGK_PROVIDER_TIMEOUT_SECONDS="0.6")
    server.faults = [server.stall] * 9
    with pytest.raises(ProviderError, match=r"did not answer within 0\.6 s") as caught:
        client.send(HELLO)
    assert classify_error(caught.value).kind == "transient"


@pytest.mark.parametrize(
    ("kind", "url"), [(Inngest, "INNGEST_BASE_URL"), (TriggerDev, "TRIGGER_API_URL")], ids=["inngest", "trigger.dev"]
)
def test_a_system_that_is_not_there_is_named_with_its_setting(connect, kind, url):
    client, _server = connect(kind, **{url: "http://127.0.0.1:1"})
    with pytest.raises(ProviderError, match=f"cannot be reached.*Check {url}") as caught:
        client.send(HELLO)
    assert (caught.value.code, caught.value.status) == ("CONNECTION_REFUSED", None)
    assert not client.health_check().healthy


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(Inngest, "INNGEST_EVENT_KEY", "wrong-event-key"), (TriggerDev, "TRIGGER_SECRET_KEY", "tr_dev_wrong")],
)
def test_a_wrong_key_is_named_and_not_shown(connect, kind, name, value):
    client, server = connect(kind, **{name: value})
    with pytest.raises(ProviderError, match=f"refused {name} \\(401") as caught:
        client.send(HELLO)
    assert (classify_error(caught.value).kind, len(server.requests), value in str(caught.value)) == (
        "permanent",
        1,
        False,
    )


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (failing(400, '{"error": "payload: too deep"}'), "INVALID_INPUT", "payload: too deep"),
        (failing(422, '{"error": "queue limit reached"}'), "INVALID_INPUT", "queue limit reached"),
        (failing(413, "<html>"), "PAYLOAD_TOO_LARGE", "reference"),
        (failing(302, location="http://127.0.0.1:1/"), "NOT_CONFIGURED", "not followed"),
        (failing(200, "<html>Welcome</html>", content_type="text/html"), "NOT_CONFIGURED", "no JSON"),
        (failing(200, "[]"), "NOT_CONFIGURED", "address of its API"),
    ],
    ids=["400", "422", "413", "redirect", "html", "other json"],
)
@BOTH
def test_a_refusal_says_what_the_system_said_and_is_not_repeated(connect, kind, answer, code, says):
    client, server = connect(kind)
    server.faults = [answer]
    with pytest.raises(ProviderError, match=says) as caught:
        client.send(HELLO)
    assert (caught.value.code, len(server.requests)) == (code, 1)


def test_trigger_dev_can_forbid_a_repeat(connect):
    client, server = connect(TriggerDev)
    server.faults = [failing(500, x_should_retry="false")]
    with pytest.raises(ProviderError, match="fault of its own"):
        client.send(HELLO)
    assert len(server.requests) == 1


def test_a_replay_is_not_repeated_when_its_fate_is_unknown(connect):
    client, server = connect(TriggerDev)
    run_id = client.trigger_and_wait(HELLO).run_id
    server.faults = [None, disconnecting]
    with pytest.raises(ProviderError):
        client.retry(run_id)
    assert [path for path in server.paths() if path.endswith("/replay")] == [f"/api/v1/runs/{run_id}/replay"]


def test_of_a_batch_that_inngest_refuses_half_way_the_accepted_runs_are_named(connect):
    client, _server = connect(Inngest)
    bad = Act(tenant_id="acme", action="echo", argument="refuse this one")
    with pytest.raises(ProviderError, match="over the max size") as caught:
        client.send_batch([HELLO, HELLO, bad, HELLO])
    assert len(caught.value.accepted) == 2
    assert "2 of the 4 events were accepted" in caught.value.__notes__[0]
    assert client.get_run_status(caught.value.accepted[0]).event == "conformance.act"


def test_of_a_batch_in_several_requests_those_before_the_fault_are_named(connect):
    client, server = connect(TriggerDev)
    server.faults = [None, failing(422, '{"error": "queue limit reached"}')]
    with pytest.raises(ProviderError) as caught:
        client.send_batch([Nobody(tenant_id="acme")] * 600)
    assert len(caught.value.accepted) == 500


def test_a_run_that_was_just_sent_is_known_before_the_record_is(connect):
    client, server = connect(TriggerDev)
    handle = client.send(HELLO, delay=60)
    server.faults = [failing(404, '{"error": "Run not found"}')]
    assert client.get_run_status(handle.id).state == "scheduled"


# Idempotency keys


@BOTH
def test_another_process_meets_the_key_at_the_system(connect, kind):
    client, server = connect(kind)
    client.send(HELLO, idempotency_key="k")
    other = create_job_client()
    handle = other.send(HELLO, idempotency_key="k")
    other.close()
    assert len(server.engine.provider._runs) == 1
    assert handle.deduplicated is (kind is TriggerDev)  # Inngest does not tell


@BOTH
def test_a_key_with_two_payloads_in_one_batch_is_refused_before_anything_is_sent(connect, kind):
    client, server = connect(kind)
    key = SendOptions(idempotency_key="k")
    items = [SendItem(HELLO, options=key), SendItem(Act(tenant_id="acme", action="attempt"), options=key)]
    with pytest.raises(IdempotencyConflictError):
        client.send_batch(items)
    assert server.requests == []


# Secrets


@BOTH
def test_no_secret_is_in_the_log_or_in_an_error(connect, kind, caplog):
    client, server = connect(kind)
    caplog.set_level(logging.DEBUG)
    echo = f'{{"error": "Unknown key {TRIGGER_KEY} {EVENT_KEY} {SIGNING_KEY}"}}'
    server.faults = [None, failing(401, echo), failing(400, echo)]
    texts = [repr(client), repr(client.provider)]
    client.send(HELLO)
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            client.send(HELLO)
        texts += [str(caught.value), repr(caught.value.__dict__), repr(caught.value.__context__)]
        texts.append(str(pickle.loads(pickle.dumps(caught.value))))
    mine = SECRETS[1:] if kind is Inngest else SECRETS[:1]
    assert [secret for secret in mine for text in [*texts, caplog.text] if secret in text] == []


# Settings


@pytest.mark.parametrize(
    ("kind", "name", "value", "says"),
    [
        (TriggerDev, "TRIGGER_SECRET_KEY", "", "TRIGGER_SECRET_KEY is not set"),
        (TriggerDev, "TRIGGER_SECRET_KEY", "pk_1234567890", "does not begin with tr_"),
        (TriggerDev, "TRIGGER_SECRET_KEY", "tr_dev_12\n34", "characters that no key has"),
        (TriggerDev, "TRIGGER_API_URL", "trigger.example.com", "is not an address"),
        (TriggerDev, "TRIGGER_API_URL", "https://user:pw@trigger.example.com", "is not an address"),
        (Inngest, "INNGEST_EVENT_KEY", "", "INNGEST_EVENT_KEY is not set"),
        (Inngest, "INNGEST_SIGNING_KEY", "secret-1234567", "does not begin with signkey-"),
        (Inngest, "INNGEST_BASE_URL", "ftp://127.0.0.1", "is not an address"),
    ],
)
def test_a_setting_of_the_wrong_form_is_named_before_anything_is_sent(connect, kind, name, value, says):
    client, server = connect(kind, **{name: value})
    assert (client.is_configured(), client.health_check().healthy) == (False, False)
    assert says in client.health_check().error
    assert value not in client.health_check().error or not value or "://" in value
    assert server.requests == []


@BOTH
def test_a_health_check_sends_no_event(connect, kind):
    client, server = connect(kind)
    health = client.health_check()
    assert (health.healthy, health.latency_seconds > 0, client.is_configured()) == (True, True, True)
    assert [method for method, *_rest in server.requests] == ["GET"]


def test_inngest_cloud_needs_the_signing_key_to_read_runs_and_not_to_send(connect, monkeypatch):
    client, _server = connect(Inngest)
    monkeypatch.delenv("INNGEST_SIGNING_KEY")
    monkeypatch.delenv("INNGEST_BASE_URL")
    use_settings(None)
    assert client.is_configured() is False
    assert "INNGEST_SIGNING_KEY is not set" in client.health_check().error


def test_a_dev_server_needs_no_signing_key(connect, monkeypatch):
    client, _server = connect(Inngest)
    monkeypatch.delenv("INNGEST_SIGNING_KEY")
    use_settings(None)
    assert client.is_configured()


def test_the_names_of_the_platform_are_understood(connect, monkeypatch):
    client, server = connect(TriggerDev)
    for old, new in (("JOBS_PROVIDER", "JOB_PROVIDER"), ("TRIGGER_SECRET_KEY", "TRIGGER_DEV_SECRET_KEY")):
        monkeypatch.setenv(new, settings_of(server)[old])
        monkeypatch.delenv(old)
    use_settings(None)
    client = create_job_client()
    assert (client.provider.name, client.send(HELLO).id[:4]) == ("trigger.dev", "run_")
    client.close()
