"""Webhooks: signed, delivered to each endpoint that wants them, retried, and given up."""

import json
import os
import socket
import threading

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from cgk_tasks import RetryLater
from cgk_tasks.builtin.secrets.rotation import rotate_secrets
from cgk_tasks.builtin.webhooks import (
    add_endpoint,
    enable_endpoint,
    get_endpoint,
    list_deliveries,
    list_endpoints,
    remove_endpoint,
    rotate_secret,
)
from cgk_tasks.builtin.webhooks.jobs import JOBS
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.errors import (
    AddressRefusedError,
    InvalidOptionError,
    PermanentError,
    UnknownEndpointError,
    UnknownTenantError,
)
from cgk_tasks.sql.postgres import autocommit, execute, fetch
from cgk_tasks.testing import run_job
from tests.support.receiver import in_turn, status

pytestmark = pytest.mark.usefixtures("database")

JOB_OF = {job.event: job for job in JOBS}


@pytest.fixture(autouse=True)
def quick(setting):
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1", CGK_WEBHOOK_TIMEOUT_SECONDS="3", CGK_WEBHOOK_RETRY_SECONDS="60,600")


@pytest.fixture
def run(tenant_id):
    """Run a webhook job for the test's tenant: `run("webhook.process", "evt-1", topic="order.created")`."""

    def once(event, event_id="evt-1", **fields):
        identity = {} if event in {"webhook.cleanup", "webhook.healthCheck"} else {"webhookEventId": event_id}
        if event in {"webhook.process", "webhook.received"}:
            fields = {"source": "shop", "topic": "order.created", "body": {"id": 7}, **fields}
        return run_job(JOB_OF[event], {"tenantId": tenant_id, **identity, **fields}, tenant=tenant_id)

    return once


@pytest.fixture
def runs_of(tenant_id):
    """The tenant's open runs of an event."""

    def find(event):
        with autocommit() as connection:
            rows = fetch(
                connection,
                "SELECT id::text, sealed_payload, run_at - now() AS wait FROM cgk.runs"
                " WHERE tenant_id = %(tenant)s AND event = %(event)s",
                {"tenant": tenant_id, "event": event},
            )
        return [{**row, "payload": json.loads(row["sealed_payload"])} for row in rows]

    return find


def make_due(tenant_id):
    """As if the wait were over."""
    with autocommit() as connection:
        execute(
            connection,
            "UPDATE cgk.webhook_deliveries d SET next_at = now() FROM cgk.webhook_messages m"
            " WHERE m.id = d.message_id AND m.tenant_id = %(tenant)s",
            {"tenant": tenant_id},
        )


def failing_for(endpoint, hours):
    with autocommit() as connection:
        execute(
            connection,
            "UPDATE cgk.webhook_endpoints SET failing_since = now() - make_interval(hours => %(hours)s) "
            "WHERE id = %(id)s::uuid",
            {"id": endpoint.id, "hours": hours},
        )


def states(tenant_id):
    return [row["state"] for row in list_deliveries(tenant_id)]


class TestWhatIsPosted:
    def test_a_message_has_type_time_and_data(self, run, receiver, tenant_id):
        add_endpoint(tenant_id, receiver.url("/hook"))
        run("webhook.process", body={"id": 7, "total": 19.99})
        (request,) = receiver.requests
        assert (request.path, request.json["type"], request.json["data"]) == (
            "/hook", "order.created", {"id": 7, "total": 19.99},
        )  # fmt: skip

    def test_the_receiver_verifies_it_with_the_standards_own_library(self, run, receiver, tenant_id):
        endpoint = add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        (request,) = receiver.requests
        assert Webhook(endpoint.secret.get_secret_value()).verify(request.body, request.headers)["data"] == {"id": 7}

    def test_another_secret_does_not_verify_it(self, run, receiver, tenant_id):
        add_endpoint(tenant_id, receiver.url())
        other = add_endpoint(tenant_id, receiver.url("/other"), ["nothing"])
        run("webhook.process")
        (request,) = receiver.requests
        with pytest.raises(WebhookVerificationError):
            Webhook(other.secret.get_secret_value()).verify(request.body, request.headers)

    def test_the_id_is_the_same_in_every_attempt_and_the_body_too(self, run, receiver, tenant_id):
        receiver.answers["/"] = in_turn(status(500), status(200))
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        make_due(tenant_id)
        run("webhook.retry", attempt=2)
        first, second = receiver.requests
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)

    def test_another_message_has_another_id(self, run, receiver, tenant_id):
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process", "evt-1")
        run("webhook.process", "evt-2")
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 2


class TestWhoGetsIt:
    @pytest.mark.parametrize(
        ("topics", "is_wanted"),
        [
            (["*"], True), (["order.created"], True), (["order.*"], True), (["customer.created", "order.*"], True),
            (["order.cancelled"], False), (["order"], False), (["orders.*"], False), (["order.created.*"], False),
        ],
    )  # fmt: skip
    def test_an_endpoint_gets_the_topics_that_it_named(self, run, receiver, tenant_id, topics, is_wanted):
        add_endpoint(tenant_id, receiver.url(), topics)
        run("webhook.process")
        assert len(receiver.requests) == is_wanted

    def test_another_tenants_endpoint_gets_nothing(self, run, receiver):
        other = add_endpoint("acme", receiver.url("/acme"))
        run("webhook.process")
        remove_endpoint("acme", other.id)
        assert receiver.at("/acme") == []

    def test_one_endpoint_that_fails_does_not_keep_the_others_from_it(self, run, receiver, tenant_id):
        receiver.answers |= {"/broken": status(500), "/stalled": receiver.stall}
        for path in ("/broken", "/stalled", "/well"):
            add_endpoint(tenant_id, receiver.url(path))
        assert run("webhook.process") == {"delivered": 1, "failed": 0, "waiting": 2}

    def test_who_has_it_does_not_get_it_again(self, run, receiver, tenant_id):
        receiver.answers["/broken"] = in_turn(status(500), status(200))
        for path in ("/broken", "/well"):
            add_endpoint(tenant_id, receiver.url(path))
        run("webhook.process")
        make_due(tenant_id)
        run("webhook.retry", attempt=2)
        assert (len(receiver.at("/broken")), len(receiver.at("/well"))) == (2, 1)

    def test_the_same_event_processed_twice_is_delivered_once(self, run, receiver, tenant_id):
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        run("webhook.process")
        assert len(receiver.requests) == 1


class TestOneEndpointsFault:
    """What is on record may be wrong in any way: by an older version, or by hand."""

    @staticmethod
    def alter(endpoint, **columns):
        (column,) = columns
        with autocommit() as connection:
            execute(
                connection,
                f"UPDATE cgk.webhook_endpoints SET {column} = %(value)s WHERE id = %(id)s::uuid",
                {"value": columns[column], "id": endpoint.id},
            )

    @pytest.mark.parametrize(
        "url",
        ["https://example.com:99999/", "https://a..b/", "https://a..b:99999/", "", "https://", "https://[::1", "nonsense",
         "https://" + "a" * 300, "https://" + "\u0660" * 3000, "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "file:///etc/passwd",
         "https://user:word@example.com/", "http://127.0.0.1:9/", "https://%00/", "https://ab.invalid/"],
    )  # fmt: skip
    def test_a_url_that_is_wrong_stops_no_other_delivery(self, run, receiver, tenant_id, url):
        bad = add_endpoint(tenant_id, receiver.url("/bad"))
        for path in ("/one", "/two"):
            add_endpoint(tenant_id, receiver.url(path))
        self.alter(bad, url=url)
        assert run("webhook.process") == {"delivered": 2, "failed": 0, "waiting": 1}
        (row,) = list_deliveries(tenant_id, bad.id)
        assert (row["state"], bool(row["error"])) == ("waiting", True)

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "whsec_",
            "whsec_%%%",
            "nonsense",
            "sealed:1:",
            "sealed:1:00000000:AAAA",
            "\udcff".encode(errors="replace").decode(),
        ],
    )
    def test_a_secret_that_is_wrong_stops_no_other_delivery(self, run, receiver, tenant_id, secret):
        bad = add_endpoint(tenant_id, receiver.url("/bad"))
        add_endpoint(tenant_id, receiver.url("/well"))
        self.alter(bad, secret=secret)
        run("webhook.process")
        assert len(receiver.at("/well")) == 1

    def test_an_old_secret_that_cannot_be_read_leaves_the_signature_of_the_new_one(self, run, receiver, tenant_id):
        endpoint = rotate_secret(tenant_id, add_endpoint(tenant_id, receiver.url()).id)
        self.alter(endpoint, old_secret="sealed:1:00000000:AAAA")
        assert run("webhook.process") == {"delivered": 1, "failed": 0, "waiting": 0}
        Webhook(endpoint.secret.get_secret_value()).verify(receiver.requests[0].body, receiver.requests[0].headers)

    def test_a_name_server_that_does_not_answer_holds_up_no_other_delivery(self, run, receiver, tenant_id, monkeypatch):
        answers = threading.Event()
        real = socket.getaddrinfo

        def look_up(host, *args, **kwargs):
            if host == "slow.test":
                answers.wait(30)
                raise socket.gaierror(socket.EAI_AGAIN, "no answer")
            return real(host, *args, **kwargs)

        slow = [add_endpoint(tenant_id, receiver.url("/slow")) for _ in range(2 * (os.cpu_count() or 1) + 8)]
        add_endpoint(tenant_id, receiver.url("/well"))
        for endpoint in slow:
            self.alter(endpoint, url="https://slow.test/")
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        try:
            result = run("webhook.process")
        finally:
            answers.set()
        assert (result["delivered"], result["waiting"]) == (1, len(slow))

    @pytest.mark.parametrize("url", ["https://example.com:99999/", "https://a..b/", "", "nonsense"])
    def test_the_health_check_asks_the_others_too(self, run, receiver, tenant_id, url):
        bad = add_endpoint(tenant_id, receiver.url("/bad"))
        add_endpoint(tenant_id, receiver.url("/well"))
        self.alter(bad, url=url)
        assert [one["healthy"] for one in run("webhook.healthCheck")["endpoints"]] == [False, True]

    @pytest.mark.parametrize(("url", "part"), [("https://example.com:99999/", "port"), ("https://a..b/", "host")])
    def test_it_is_refused_when_it_is_added(self, tenant_id, url, part):
        with pytest.raises(AddressRefusedError, match=f"The {part} of the webhook URL"):
            add_endpoint(tenant_id, url)
        assert list_endpoints(tenant_id) == []


class TestWhatIsRecorded:
    def test_status_time_and_the_beginning_of_the_answer(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(202, b"thanks" + b"." * 5000)
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        (row,) = list_deliveries(tenant_id)
        assert (row["state"], row["status"], row["attempts"], len(row["excerpt"])) == ("delivered", 202, 1, 1000)
        assert row["seconds"] > 0

    @pytest.mark.parametrize("code", [301, 404, 500])
    def test_any_answer_but_success_is_a_failure(self, run, receiver, tenant_id, code):
        receiver.answers["/"] = status(code, b"no")
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        (row,) = list_deliveries(tenant_id)
        assert (row["state"], row["status"], row["excerpt"]) == ("waiting", code, "no")
        assert f"it answered {code}" in row["error"]

    def test_a_connection_that_is_refused(self, run, tenant_id):
        add_endpoint(tenant_id, "http://127.0.0.1:9/")
        run("webhook.process")
        (row,) = list_deliveries(tenant_id)
        assert (row["state"], row["status"]) == ("waiting", None)
        assert row["error"]


class TestRetries:
    def test_a_failure_sends_a_retry_for_later(self, run, receiver, tenant_id, runs_of):
        receiver.answers["/"] = status(500)
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        (following,) = runs_of("webhook.retry")
        assert following["payload"]["attempt"] == 2
        assert 50 < following["wait"].total_seconds() < 70

    def test_success_sends_none(self, run, receiver, tenant_id, runs_of):
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        assert runs_of("webhook.retry") == []

    def test_an_endpoint_may_ask_for_more_time(self, run, receiver, tenant_id, runs_of):
        receiver.answers["/"] = status(503, retry_after="3000")
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        (following,) = runs_of("webhook.retry")
        assert following["wait"].total_seconds() > 2900

    def test_a_retry_that_comes_too_early_waits_without_using_an_attempt(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(500)
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        with pytest.raises(RetryLater):
            run("webhook.retry", attempt=2)
        assert len(receiver.requests) == 1

    def test_after_its_last_attempt_a_delivery_is_given_up(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(500)
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        for attempt in (2, 3):
            make_due(tenant_id)
            last = run("webhook.retry", attempt=attempt)
        assert last == {"delivered": 0, "failed": 1, "waiting": 0}

    def test_attempt_1_begins_anew_with_what_was_given_up(self, run, receiver, tenant_id):
        receiver.answers["/"] = in_turn(status(500), status(500), status(500), status(200))
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        for attempt in (2, 3):
            make_due(tenant_id)
            run("webhook.retry", attempt=attempt)
        assert run("webhook.retry", attempt=1) == {"delivered": 1, "failed": 0, "waiting": 0}

    def test_a_message_that_is_not_on_record_fails_for_good(self, run):
        with pytest.raises(PermanentError, match="never sent, or cleaned up"):
            run("webhook.retry", "unknown", attempt=2)


class TestSwitchingOff:
    def test_a_success_ends_the_time_of_failure(self, run, receiver, tenant_id):
        endpoint = add_endpoint(tenant_id, receiver.url())
        failing_for(endpoint, hours=30)
        run("webhook.process")
        assert get_endpoint(tenant_id, endpoint.id).failing_since is None

    def test_failures_of_less_than_a_day_are_borne(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(500)
        endpoint = add_endpoint(tenant_id, receiver.url())
        failing_for(endpoint, hours=23)
        run("webhook.process")
        assert get_endpoint(tenant_id, endpoint.id).is_on

    def test_after_a_day_of_failures_an_endpoint_is_off(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(500)
        endpoint = add_endpoint(tenant_id, receiver.url())
        failing_for(endpoint, hours=25)
        run("webhook.process")
        found = get_endpoint(tenant_id, endpoint.id)
        assert (found.is_on, found.switched_off_reason) == (False, "it only failed for 24 h")
        assert states(tenant_id) == ["failed"]

    def test_gone_switches_off_at_once(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(410)
        endpoint = add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        assert get_endpoint(tenant_id, endpoint.id).switched_off_reason == "it answered 410 Gone"

    def test_an_endpoint_that_is_off_gets_nothing_until_it_is_enabled(self, run, receiver, tenant_id):
        receiver.answers["/"] = in_turn(status(410), status(200))
        endpoint = add_endpoint(tenant_id, receiver.url())
        run("webhook.process", "evt-1")
        run("webhook.process", "evt-2")
        enable_endpoint(tenant_id, endpoint.id)
        run("webhook.process", "evt-3")
        assert len(receiver.requests) == 2


class TestRotatingSecrets:
    @pytest.fixture
    def rotated(self, tenant_id, receiver):
        """An endpoint whose secret was rotated, and the secret before: `rotated(keep_old=3600)`."""

        def rotate(**options):
            before = add_endpoint(tenant_id, receiver.url()).secret.get_secret_value()
            (endpoint,) = list_endpoints(tenant_id)
            return before, rotate_secret(tenant_id, endpoint.id, **options)

        return rotate

    def test_for_a_time_both_secrets_verify_a_message(self, run, receiver, rotated):
        before, endpoint = rotated(keep_old=3600)
        run("webhook.process")
        (request,) = receiver.requests
        assert len(request.headers["webhook-signature"].split(" ")) == 2
        for secret in (before, endpoint.secret.get_secret_value()):
            assert Webhook(secret).verify(request.body, request.headers)["data"] == {"id": 7}

    def test_a_ping_is_signed_with_both_too(self, run, receiver, rotated):
        before, _ = rotated()
        run("webhook.healthCheck")
        Webhook(before).verify(receiver.requests[0].body, receiver.requests[0].headers)

    @pytest.mark.parametrize("ended", ["by itself", "at once"])
    def test_the_old_secret_ends(self, run, receiver, rotated, tenant_id, ended):
        before, endpoint = rotated(keep_old=3600 if ended == "by itself" else 0)
        if ended == "by itself":
            with autocommit() as connection:
                execute(
                    connection,
                    "UPDATE cgk.webhook_endpoints SET old_secret_until = now() WHERE tenant_id = %(t)s",
                    {"t": tenant_id},
                )
        run("webhook.process")
        (request,) = receiver.requests
        assert Webhook(endpoint.secret.get_secret_value()).verify(request.body, request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(before).verify(request.body, request.headers)
        assert get_endpoint(tenant_id, endpoint.id).old_secret_until is None

    def test_an_endpoint_has_two_secrets_at_most(self, run, receiver, rotated, tenant_id):
        before, endpoint = rotated()
        newest = rotate_secret(tenant_id, endpoint.id)
        run("webhook.process")
        (request,) = receiver.requests
        for known in (endpoint, newest):
            Webhook(known.secret.get_secret_value()).verify(request.body, request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(before).verify(request.body, request.headers)

    def test_the_receivers_own_secret_may_be_the_new_one(self, rotated):
        own = f"whsec_{'A' * 32}"
        assert rotated(secret=SecretStr(own))[1].secret.get_secret_value() == own

    def test_a_lost_key_does_not_keep_a_new_secret_away(self, run, receiver, rotated, tenant_id, setting):
        _, endpoint = rotated()
        setting(CGK_ENCRYPTION_KEYS=new_key())
        mended = rotate_secret(tenant_id, endpoint.id, keep_old=0)
        run("webhook.process")
        Webhook(mended.secret.get_secret_value()).verify(receiver.requests[0].body, receiver.requests[0].headers)

    def test_old_secrets_are_encrypted_and_get_the_newest_key_too(self, run, receiver, rotated, setting):
        before, endpoint = rotated()
        secrets = (before, endpoint.secret.get_secret_value())
        newest = new_key()
        setting(CGK_ENCRYPTION_KEYS=f"{newest},{os.environ['CGK_ENCRYPTION_KEYS']}")
        rotate_secrets()
        setting(CGK_ENCRYPTION_KEYS=newest)
        run("webhook.process")
        for secret in secrets:
            Webhook(secret).verify(receiver.requests[0].body, receiver.requests[0].headers)

    def test_the_cleanup_deletes_what_has_ended(self, run, rotated, tenant_id):
        rotated()
        with autocommit() as connection:
            execute(
                connection,
                "UPDATE cgk.webhook_endpoints SET old_secret_until = now() WHERE tenant_id = %(t)s",
                {"t": tenant_id},
            )
        run("webhook.cleanup")
        with autocommit() as connection:
            (row,) = fetch(
                connection, "SELECT old_secret FROM cgk.webhook_endpoints WHERE tenant_id = %(t)s", {"t": tenant_id}
            )
        assert row["old_secret"] is None

    def test_neither_secret_prints(self, rotated):
        _, endpoint = rotated()
        assert "sealed" not in repr(endpoint)

    def test_a_tenant_cannot_rotate_anothers(self, rotated):
        _, endpoint = rotated()
        with pytest.raises(UnknownEndpointError):
            rotate_secret("acme", endpoint.id)

    def test_a_negative_time_is_refused(self, rotated):
        with pytest.raises(InvalidOptionError, match="negative"):
            rotated(keep_old=-1)


class TestAMissingKey:
    """A worker without the key: the failure is ours."""

    def test_is_on_record_and_tried_again_and_does_not_count_against_the_endpoint(
        self, run, receiver, tenant_id, setting, runs_of
    ):
        endpoint = add_endpoint(tenant_id, receiver.url())
        failing_for(endpoint, hours=25)
        with_key = os.environ["CGK_ENCRYPTION_KEYS"]
        setting(CGK_ENCRYPTION_KEYS=new_key())
        assert run("webhook.process") == {"delivered": 0, "failed": 0, "waiting": 1}
        (row,) = list_deliveries(tenant_id)
        assert (row["state"], "CGK_ENCRYPTION_KEYS" in row["error"]) == ("waiting", True)
        assert (receiver.requests, len(runs_of("webhook.retry"))) == ([], 1)
        assert get_endpoint(tenant_id, endpoint.id).is_on

        setting(CGK_ENCRYPTION_KEYS=with_key)
        make_due(tenant_id)
        assert run("webhook.retry", attempt=2) == {"delivered": 1, "failed": 0, "waiting": 0}

    def test_fails_the_health_of_that_endpoint(self, run, receiver, tenant_id, setting):
        add_endpoint(tenant_id, receiver.url("/closed"))
        setting(CGK_ENCRYPTION_KEYS=new_key())
        add_endpoint(tenant_id, receiver.url("/open"))
        result = run("webhook.healthCheck")
        assert [one["healthy"] for one in result["endpoints"]] == [False, True]


class TestReceived:
    def test_a_call_is_put_on_record_and_processed_once_however_often_it_comes(self, run, runs_of):
        first, second = run("webhook.received"), run("webhook.received")
        assert (first["repeated"], second) == (False, {"run": first["run"], "repeated": True})
        assert len(runs_of("webhook.process")) == 1

    def test_what_is_processed_is_what_was_received(self, run, runs_of, receiver, tenant_id):
        add_endpoint(tenant_id, receiver.url())
        run("webhook.received", body={"id": 8})
        (following,) = runs_of("webhook.process")
        run_job(JOB_OF["webhook.process"], following["payload"], tenant=tenant_id)
        assert receiver.requests[0].json["data"] == {"id": 8}


class TestHealthCheck:
    def test_every_endpoint_that_is_on_gets_a_signed_ping(self, run, receiver, tenant_id):
        receiver.answers["/broken"] = status(500)
        for path in ("/well", "/broken"):
            add_endpoint(tenant_id, receiver.url(path), ["nothing"])
        result = run("webhook.healthCheck")
        assert [one["healthy"] for one in result["endpoints"]] == [True, False]
        assert receiver.at("/well")[0].json["type"] == "webhook.ping"
        assert [endpoint.check_outcome for endpoint in list_endpoints(tenant_id)] == ["ok", "it answered 500"]

    def test_one_endpoint_may_be_asked_for(self, run, receiver, tenant_id):
        endpoint = add_endpoint(tenant_id, receiver.url("/one"))
        add_endpoint(tenant_id, receiver.url("/other"))
        run("webhook.healthCheck", endpointId=endpoint.id)
        assert [request.path for request in receiver.requests] == ["/one"]

    def test_a_tenant_cannot_ask_for_anothers(self, run, receiver):
        other = add_endpoint("acme", receiver.url())
        with pytest.raises(UnknownEndpointError):
            run("webhook.healthCheck", endpointId=other.id)
        remove_endpoint("acme", other.id)


class TestCleanup:
    def test_old_messages_go_and_young_ones_stay(self, run, receiver, tenant_id):
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process", "old")
        with autocommit() as connection:
            execute(
                connection,
                "UPDATE cgk.webhook_messages SET received_at = now() - interval '40 days' WHERE tenant_id = %(t)s",
                {"t": tenant_id},
            )
        run("webhook.process", "young")
        assert run("webhook.cleanup", olderThanDays=30) == {"messages": 1}
        assert [row["event_id"] for row in list_deliveries(tenant_id)] == ["young"]

    def test_a_message_that_still_waits_stays(self, run, receiver, tenant_id):
        receiver.answers["/"] = status(500)
        add_endpoint(tenant_id, receiver.url())
        run("webhook.process")
        assert run("webhook.cleanup", olderThanDays=0) == {"messages": 0}


class TestEndpoints:
    def test_a_secret_is_in_the_standards_form_and_does_not_print(self, tenant_id, receiver):
        endpoint = add_endpoint(tenant_id, receiver.url())
        assert endpoint.secret.get_secret_value().startswith("whsec_")
        assert endpoint.secret.get_secret_value() not in repr(endpoint)

    def test_topics_must_look_like_topics(self, tenant_id, receiver):
        with pytest.raises(InvalidOptionError, match=r"order\.\*\.created"):
            add_endpoint(tenant_id, receiver.url(), ["order.*.created"])

    def test_the_tenant_must_exist(self, receiver):
        with pytest.raises(UnknownTenantError):
            add_endpoint("nobody", receiver.url())

    def test_a_tenant_cannot_remove_anothers(self, tenant_id, receiver):
        endpoint = add_endpoint(tenant_id, receiver.url())
        with pytest.raises(UnknownEndpointError):
            remove_endpoint("acme", endpoint.id)
        assert get_endpoint(tenant_id, endpoint.id) == endpoint
