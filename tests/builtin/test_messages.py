"""`sms.send`, `slack.notify`, `push.notification`: through apprise, to a real receiver."""

import json
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgk_tasks import PermanentError, TransientError, send_job
from cgk_tasks.builtin.channels import fill_in, notify
from cgk_tasks.builtin.messages import JOBS
from cgk_tasks.builtin.tenant_settings import set_tenant_setting
from cgk_tasks.testing import run_job
from tests.support.receiver import in_turn, status
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.usefixtures("database")

JOB_OF = {job.event: job for job in JOBS}
SMS = {"tenantId": "acme", "to": "+49 151 123", "message": "Your code is 7"}


@pytest.fixture
def service(receiver):
    """An apprise URL for the receiver: `service("/{to}")`."""
    return lambda path="": f"json://127.0.0.1:{receiver.port}{path}"


class TestJobs:
    def test_a_text_message_goes_to_its_number(self, receiver, service, setting):
        setting(CGK_SMS_URL=service("/sms/{to}"))
        run_job(JOB_OF["sms.send"], SMS)
        (request,) = receiver.requests
        assert (request.path, request.json["message"]) == ("/sms/+49151123", "Your code is 7")

    def test_a_slack_message_goes_to_its_channel(self, receiver, service, setting):
        setting(CGK_SLACK_URL=service("/slack/{channel}"))
        run_job(JOB_OF["slack.notify"], {"tenantId": "acme", "channel": "#sales", "message": "Sold!"})
        (request,) = receiver.requests
        assert (request.path, request.json["message"]) == ("/slack/%23sales", "Sold!")

    def test_a_slack_url_may_name_the_channel_itself(self, receiver, service, setting):
        setting(CGK_SLACK_URL=service("/sales"))
        run_job(JOB_OF["slack.notify"], {"tenantId": "acme", "channel": "#other", "message": "Sold!"})
        assert receiver.requests[0].path == "/sales"

    def test_blocks_are_left_out_and_the_result_says_so(self, receiver, service, setting):
        setting(CGK_SLACK_URL=service("/sales"))
        payload = {"tenantId": "acme", "channel": "#sales", "message": "Sold!", "blocks": [{"type": "divider"}]}
        assert run_job(JOB_OF["slack.notify"], payload) == {"blocks": "left out"}

    def test_a_push_notification_has_title_and_body(self, receiver, service, setting):
        setting(CGK_PUSH_URL=service("/push/{user_id}"))
        run_job(JOB_OF["push.notification"], {"tenantId": "acme", "userId": "u-1", "title": "Hello", "body": "Ada"})
        (request,) = receiver.requests
        assert (request.path, request.json["title"], request.json["message"]) == ("/push/u-1", "Hello", "Ada")

    @pytest.mark.parametrize(
        ("job", "variable", "payload"),
        [("sms.send", "CGK_SMS_URL", SMS),
        ("push.notification", "CGK_PUSH_URL", {"tenantId": "acme", "userId": "u", "title": "t", "body": "b"})],
    )  # fmt: skip
    def test_a_url_without_a_place_for_the_recipient_is_refused(
        self, service, setting, receiver, job, variable, payload
    ):
        setting(**{variable: service("/everybody")})
        with pytest.raises(PermanentError, match="no place for the recipient"):
            run_job(JOB_OF[job], payload)
        assert receiver.requests == []

    def test_what_is_no_phone_number_fails_for_good(self, service, setting):
        setting(CGK_SMS_URL=service("/{to}"))
        with pytest.raises(PermanentError, match="not a phone number"):
            run_job(JOB_OF["sms.send"], {**SMS, "to": "ada@customer.example"})

    def test_a_tenants_own_url_replaces_the_platforms(self, receiver, service, setting, tenant_id):
        setting(CGK_SMS_URL=service("/platform/{to}"))
        set_tenant_setting(tenant_id, "sms_url", service("/own/{to}"))
        run_job(JOB_OF["sms.send"], {**SMS, "tenantId": tenant_id}, tenant=tenant_id)
        assert receiver.requests[0].path == "/own/+49151123"


class TestChannels:
    @pytest.mark.parametrize("value", ["a/b", "a?url=x", "a@b", "../x", "#c", "a b", "ü"])
    def test_a_recipient_can_name_nothing_but_itself(self, value):
        assert "/" not in fill_in("{to}", to=value).replace("json://", "")
        assert not set("?#@ ") & set(fill_in("{to}", to=value))

    @pytest.mark.parametrize("value", ["", ".", ".."])
    def test_a_recipient_that_names_nothing_or_another_folder_is_refused(self, value):
        with pytest.raises(PermanentError, match="empty or only dots"):
            fill_in("json://host/{to}/send", to=value)

    @pytest.mark.parametrize("code", [400, 401, 404])
    def test_a_refusal_for_good_is_not_retried(self, receiver, service, code):
        receiver.answers["/"] = status(code)
        with pytest.raises(PermanentError, match=f"HTTP {code}"):
            notify(service(), "text")

    @pytest.mark.parametrize("code", [429, 500, 503])
    def test_any_other_failure_is(self, receiver, service, code):
        receiver.answers["/"] = status(code)
        with pytest.raises(TransientError, match=f"HTTP {code}"):
            notify(service(), "text")

    def test_a_service_that_is_not_there_is_retried(self):
        with pytest.raises(TransientError, match="no answer"):
            notify("json://127.0.0.1:9", "text")

    def test_a_url_that_apprise_cannot_read_is_not_quoted(self):
        with pytest.raises(PermanentError, match="apprise cannot read the nonsense:// URL") as error:
            notify("nonsense://secret", "text")
        assert "secret" not in str(error.value)


URLS = st.sampled_from(
    ["json://{}:{}@127.0.0.1:9/", "json://{}:{}@127.0.0.1:port", "jsons://{}:{}@[127.0.0.1", "slack://{}/{}/", "twilio://{}:{}@+49151",
     "{}:{}@127.0.0.1", "{}{}", "mailto://{}:{}@127.0.0.1:9", "json://127.0.0.1:9/{}?x={}", "{}://{}",
     "discord://{}/{}", "nonsense://{}:{}"]
)  # fmt: skip


@pytest.mark.slow
@given(form=URLS, user=st.text(max_size=8), password=st.text(max_size=8), is_quoted=st.booleans())
@settings(deadline=None, max_examples=150)
def test_no_error_quotes_what_a_url_holds(form, user, password, is_quoted):
    secrets = [f"us3r{user}", f"w0rd{password}"]
    url = form.format(*(quote(secret, safe="") if is_quoted else secret for secret in secrets))
    try:
        notify(url, "text")
    except (PermanentError, TransientError) as exc:
        told = "".join(traceback.format_exception(exc))
        assert "w0rd" not in told
        assert "us3r" not in told or form.startswith("{}://")


def test_in_a_worker_a_message_is_retried_and_no_recipient_reaches_the_log(start_worker, receiver, service):
    receiver.answers["/sms/+49151987654"] = in_turn(status(500), status(200))
    worker = start_worker(CGK_SMS_URL=service("/sms/{to}"), CGK_LOG_TRACEBACKS="true")
    run = send_job("sms.send", {**SMS, "to": "+49 151 987654"})
    closed = wait_closed(run.id)
    assert (closed.state, closed.attempt) == ("completed", 2), json.dumps(closed.errors)
    assert "151987654" not in worker.log
