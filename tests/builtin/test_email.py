"""`email.send`: templates, senders and SMTP servers of tenants, TLS, and what is retried."""

import base64
import json
import os
import ssl
import traceback
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest
import redis
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from cgk_tasks import PermanentError, TransientError, send_job
from cgk_tasks.builtin.email.jobs import JOBS
from cgk_tasks.builtin.email.smtp import parse_url
from cgk_tasks.builtin.tenant_settings import set_tenant_setting
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.jobs.classification import classify_error
from cgk_tasks.testing import LocalJobs, run_job
from tests.support.mail_server import echoing_server, mail_server
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.usefixtures("database")

(JOB,) = JOBS

ADDRESS = "ada@customer.example"


@pytest.fixture
def mailbox():
    with mail_server() as running:
        yield running


@pytest.fixture
def templates(setting, tmp_path):
    """Write a template's files: `templates("welcome", subject="Hello", body="...")`; and switch emails on."""
    setting(CGK_EMAIL_TEMPLATES=str(tmp_path), CGK_EMAIL_FROM="The Shop <shop@shop.example>")

    def write(name, subject="Hello", body=None, html=None):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in (("subject.txt", subject), ("body.txt", body), ("body.html", html)):
            if text is not None:
                (folder / file).write_text(text)

    write("welcome", "Welcome, {{ name }}", "Hello {{ name }}", "<p>Hello {{ name }}</p>")
    return write


@pytest.fixture
def send(templates, setting, mailbox):
    """Run the job once, against the test's server: `send(template="welcome", name="Ada")`."""

    def once(template="welcome", to=ADDRESS, priority=None, tenant="acme", **data):
        setting(CGK_SMTP_URL=f"smtp://127.0.0.1:{mailbox.port}")
        payload = {"tenantId": tenant, "to": to, "templateId": template, "data": data, "priority": priority}
        return run_job(JOB, payload, tenant=tenant)

    return once


class TestTheMessage:
    def test_it_comes_from_the_platforms_sender_and_goes_to_one_recipient(self, send, mailbox):
        send(name="Ada")
        assert mailbox.message["From"] == "The Shop <shop@shop.example>"
        assert (mailbox.senders, mailbox.recipients) == (["shop@shop.example"], [ADDRESS])

    def test_its_texts_are_the_templates_filled_in(self, send, mailbox):
        send(name="Ada")
        message = mailbox.message
        assert message["Subject"] == "Welcome, Ada"
        assert message.get_body(("plain",)).get_content().strip() == "Hello Ada"
        assert message.get_body(("html",)).get_content().strip() == "<p>Hello Ada</p>"

    def test_values_are_escaped_in_html_and_nowhere_else(self, send, mailbox):
        send(name="<b>&")
        message = mailbox.message
        assert "&lt;b&gt;&amp;" in message.get_body(("html",)).get_content()
        assert "<b>&" in message.get_body(("plain",)).get_content()

    def test_a_template_may_have_one_body_only(self, send, templates, mailbox):
        templates("plain", "Hi", body="only text")
        send("plain")
        assert mailbox.message.get_content_type() == "text/plain"

    def test_its_id_is_made_from_the_run_so_that_a_repetition_is_recognised(self, templates, setting, mailbox):
        setting(CGK_SMTP_URL=f"smtp://127.0.0.1:{mailbox.port}")
        with LocalJobs() as jobs:
            jobs.client.register_handler("email.send", JOB.handler)
            run = send_job(
                "email.send", {"tenantId": "acme", "to": ADDRESS, "templateId": "welcome", "data": {"name": "A"}}
            )
            jobs.wait_idle()
        assert mailbox.message["Message-ID"] == f"<{run.id}@shop.example>"

    def test_it_has_a_date(self, send, mailbox):
        send(name="Ada")
        assert parsedate_to_datetime(mailbox.message["Date"]).tzinfo is not None

    def test_an_urgent_one_says_so(self, send, mailbox):
        send(name="Ada", priority="high")
        assert mailbox.message["Importance"] == "high"

    def test_a_line_break_in_a_value_makes_no_new_header(self, send, mailbox):
        send(name="Ada\r\nBcc: eve@evil.example")
        assert mailbox.message["Bcc"] is None
        assert mailbox.message["Subject"] == "Welcome, Ada Bcc: eve@evil.example"

    @pytest.mark.parametrize(
        "word", ["=?utf-8?q?Ada=0D=0ABcc=3A_eve=40evil.example?=", "=?utf-8?b?QWRhDQoNCkJ1eSBub3c=?="]
    )
    def test_a_line_break_in_an_encoded_word_fails_for_good_and_nothing_is_sent(self, send, mailbox, word):
        with pytest.raises(PermanentError, match="The subject cannot be the header Subject"):
            send(name=word)
        assert mailbox.messages == []


class TestTemplates:
    def test_a_tenants_own_file_comes_before_the_common_one(self, send, templates, mailbox):
        templates("tenants/acme/welcome", "Acme greets {{ name }}")
        send(name="Ada")
        assert mailbox.message["Subject"] == "Acme greets Ada"
        assert mailbox.message.get_body(("plain",)).get_content().strip() == "Hello Ada"

    def test_another_tenants_file_is_not_used(self, send, templates, mailbox):
        templates("tenants/globex/welcome", "Globex greets")
        send(name="Ada")
        assert mailbox.message["Subject"] == "Welcome, Ada"

    def test_a_value_that_is_missing_is_an_error_not_an_empty_space(self, send):
        with pytest.raises(PermanentError, match="'name' is undefined"):
            send()

    def test_an_unknown_template_fails_with_the_files_that_it_needs(self, send):
        with pytest.raises(PermanentError, match=r"farewell/subject\.txt"):
            send("farewell")

    @pytest.mark.parametrize("name", ["../welcome", "/etc", "tenants/globex/welcome", "tenants", ""])
    def test_a_template_id_cannot_leave_the_folder(self, send, name):
        with pytest.raises(PermanentError, match="is no template id"):
            send(name)

    @pytest.mark.parametrize("text", ["{{ ''.__class__.__mro__ }}", "{{ items.append(1) }}"])
    def test_a_template_cannot_leave_its_sandbox(self, send, templates, text):
        templates("odd", "Hello", body=text)
        with pytest.raises(PermanentError, match="cannot be filled in"):
            send("odd", items=[])

    def test_data_is_never_read_as_a_template(self, send, mailbox):
        send(name="{{ 7 * 7 }}")
        assert mailbox.message["Subject"] == "Welcome, {{ 7 * 7 }}"


class TestAddresses:
    @pytest.mark.parametrize(
        "to", ["", "ada", "a@x.example, b@x.example", "a@x.example\nBcc: b@x.example", "@x.example"]
    )
    def test_what_is_not_one_address_fails_for_good_and_is_not_quoted(self, send, mailbox, to):
        with pytest.raises(PermanentError, match=r"The recipient \(to\) is not one email address\.") as error:
            send(to=to, name="Ada")
        assert mailbox.messages == []
        assert not to or to not in str(error.value)

    def test_a_name_may_stand_with_it(self, send, mailbox):
        send(to="Ada Lovelace <ada@customer.example>", name="Ada")
        assert (mailbox.message["To"], mailbox.recipients) == ("Ada Lovelace <ada@customer.example>", [ADDRESS])


class TestRefusals:
    @pytest.mark.parametrize("step", ["RCPT", "DATA"])
    def test_a_refusal_for_good_fails_the_run_without_quoting_the_address(self, send, mailbox, step):
        mailbox.refusals[step] = [f"550 no such user {ADDRESS}"]
        with pytest.raises(PermanentError, match="for good") as error:
            send(name="Ada")
        assert ADDRESS not in str(error.value)

    @pytest.mark.parametrize("step", ["RCPT", "DATA"])
    def test_a_refusal_for_now_is_retried(self, send, mailbox, step):
        mailbox.refusals[step] = ["451 greylisted"]
        with pytest.raises(TransientError):
            send(name="Ada")

    def test_a_server_that_is_not_there_is_retried(self, templates, setting):
        setting(CGK_SMTP_URL="smtp://127.0.0.1:9")
        with pytest.raises(OSError) as error:
            run_job(JOB, {"tenantId": "acme", "to": ADDRESS, "templateId": "welcome", "data": {"name": "A"}})
        assert classify_error(error.value).kind == "transient"


class TestServers:
    PAYLOAD = {"tenantId": "acme", "to": ADDRESS, "templateId": "welcome", "data": {"name": "Ada"}}

    @pytest.fixture
    def tls(self, monkeypatch, tmp_path):
        """A server's TLS, by an authority that is trusted while the test runs."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    def test_starttls_with_a_login(self, templates, setting, tls):
        with mail_server(tls, login=True) as mailbox:
            setting(CGK_SMTP_URL=f"smtp+starttls://shop:s%40crt@127.0.0.1:{mailbox.port}")
            run_job(JOB, self.PAYLOAD)
        assert (mailbox.logins, mailbox.used_tls) == ([("shop", "s@crt")], [True])

    def test_tls_from_the_first_byte(self, templates, setting, tls):
        with mail_server(tls, implicit=True) as mailbox:
            setting(CGK_SMTP_URL=f"smtps://127.0.0.1:{mailbox.port}")
            run_job(JOB, self.PAYLOAD)
        assert len(mailbox.messages) == 1

    def test_a_certificate_that_is_not_trusted_is_refused(self, templates, setting, tls, monkeypatch):
        monkeypatch.delenv("SSL_CERT_FILE")
        with mail_server(tls, implicit=True) as mailbox:
            setting(CGK_SMTP_URL=f"smtps://127.0.0.1:{mailbox.port}")
            with pytest.raises(ssl.SSLError):
                run_job(JOB, self.PAYLOAD)
        assert mailbox.messages == []

    def test_a_server_without_starttls_gets_nothing_where_it_is_asked_for(self, templates, setting, mailbox):
        setting(CGK_SMTP_URL=f"smtp+starttls://127.0.0.1:{mailbox.port}")
        with pytest.raises(PermanentError, match="STARTTLS"):
            run_job(JOB, self.PAYLOAD)
        assert mailbox.messages == []

    def test_a_login_that_is_refused_fails_for_good_without_the_password(self, templates, setting):
        with mail_server(login=True) as mailbox:
            setting(CGK_SMTP_URL=f"smtp://shop:wrong@127.0.0.1:{mailbox.port}")
            with pytest.raises(PermanentError, match="refuses the login") as error:
                run_job(JOB, self.PAYLOAD)
        assert (error.value.code, "wrong" in str(error.value)) == ("INVALID_CREDENTIALS", False)

    @pytest.mark.parametrize(
        "url", ["http://host", "smtp://", "host:25", "smtp://host:port", "smtp://user:secret@mail.example"]
    )
    def test_a_url_that_does_not_fit_is_an_error_that_does_not_quote_it(self, url):
        with pytest.raises(ConfigurationError) as error:
            parse_url(url)
        assert "secret" not in str(error.value)


SMTP_URLS = st.sampled_from(
    ["smtp://{}:{}@127.0.0.1:9", "smtps://{}:{}@mail.example", "smtp+starttls://{}:{}@mail.example:587", "smtp://{}:{}@mail.example",
     "smtps://{}:{}@", "{}:{}@mail.example", "smtps://{}:{}", "smtps://{}@mail.example/{}",
     "smtps://{}:{}@mail.example:port", "{}://{}"]
)  # fmt: skip


class TestErrorsQuoteNoLogin:
    @given(form=SMTP_URLS, user=st.text(max_size=8), password=st.text(max_size=8), is_quoted=st.booleans())
    @settings(deadline=None, max_examples=300)
    def test_a_url_of_any_kind(self, form, user, password, is_quoted):
        secrets = [f"us3r{user}", f"w0rd{password}"]
        url = form.format(*(quote(secret, safe="") if is_quoted else secret for secret in secrets))
        try:
            told = repr(parse_url(url)).replace(form, "")
        except ConfigurationError as exc:
            told = "".join(traceback.format_exception(exc))
        assert "w0rd" not in told
        assert "us3r" not in told or "@" not in form

    @pytest.mark.parametrize("user", ["us/er", "us?er", "us#er"])
    def test_a_character_that_ends_the_host_is_said_to_need_quoting(self, user):
        with pytest.raises(ConfigurationError, match="%2F, %3F and %23"):
            parse_url(f"smtps://{user}:word@mail.example")

    @pytest.mark.parametrize("host", ["a..b", "a" * 64, "[::1", "mail.example:99999"])
    def test_a_host_or_port_that_is_none_fails_for_good(self, host):
        with pytest.raises(ConfigurationError) as error:
            parse_url(f"smtps://{host}")
        assert classify_error(error.value).kind == "permanent"

    @pytest.mark.parametrize("step", ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "end"])
    @pytest.mark.parametrize("code", ["421", "454", "500", "535", "600", "junk"])
    def test_a_server_that_answers_with_what_it_was_told(self, templates, setting, step, code):
        with echoing_server(step, code) as port:
            setting(CGK_SMTP_URL=f"smtp://planted-user:planted-word@127.0.0.1:{port}")
            with pytest.raises((PermanentError, TransientError)) as error:
                run_job(JOB, {"tenantId": "acme", "to": ADDRESS, "templateId": "welcome", "data": {"name": "Ada"}})
        told = "".join(traceback.format_exception(error.value))
        for secret in ("planted", base64.b64encode(b"\0planted-user\0planted-word").decode(), ADDRESS):
            assert secret not in told


class TestTenants:
    def test_a_tenants_own_sender_and_server_replace_the_platforms(self, templates, setting, tenant_id, mailbox):
        setting(CGK_SMTP_URL="smtp://127.0.0.1:9")
        set_tenant_setting(tenant_id, "email_from", "Own <own@tenant.example>")
        set_tenant_setting(tenant_id, "smtp_url", f"smtp://127.0.0.1:{mailbox.port}")
        run_job(
            JOB,
            {"tenantId": tenant_id, "to": ADDRESS, "templateId": "welcome", "data": {"name": "A"}},
            tenant=tenant_id,
        )
        assert mailbox.message["From"] == "Own <own@tenant.example>"

    def test_without_any_server_the_run_fails_with_what_to_set(self, templates, setting, tenant_id):
        setting(CGK_SMTP_URL="per-tenant")
        with pytest.raises(PermanentError, match=f"cgk-tasks tenants set {tenant_id} smtp_url") as error:
            run_job(JOB, {"tenantId": tenant_id, "to": ADDRESS, "templateId": "welcome", "data": {}}, tenant=tenant_id)
        assert error.value.code == "NOT_CONFIGURED"


def everything_in_redis(services):
    """Each key with its value, as Redis itself would write them to disk."""
    with redis.Redis.from_url(services.broker_url) as client:
        return b"".join(key + (client.dump(key) or b"") for key in client.scan_iter())


@pytest.mark.slow
def test_in_a_worker_a_greylisted_email_arrives_and_nothing_secret_reaches_log_or_broker(
    start_worker, templates, setting, tmp_path, tenant_id, services
):
    with mail_server(login=True) as mailbox:
        mailbox.refusals["RCPT"] = [f"451 later, {ADDRESS}"]
        set_tenant_setting(tenant_id, "smtp_url", f"smtp://shop:planted-7@127.0.0.1:{mailbox.port}")
        worker = start_worker(
            CGK_SMTP_URL="per-tenant", CGK_EMAIL_TEMPLATES=str(tmp_path),
            CGK_EMAIL_FROM=os.environ["CGK_EMAIL_FROM"], CGK_LOG_TRACEBACKS="true", CGK_LOG_LEVEL="DEBUG",
        )  # fmt: skip
        payload = {"tenantId": tenant_id, "to": ADDRESS, "templateId": "welcome", "data": {"name": "Ada"}}
        run = send_job("email.send", payload)
        in_redis = everything_in_redis(services)
        closed = wait_closed(run.id)
    assert (closed.state, closed.attempt) == ("completed", 2), closed.errors
    assert mailbox.message["Message-ID"] == closed.result["messageId"]
    in_redis += everything_in_redis(services)
    for secret in (ADDRESS, "planted-7"):
        assert secret not in worker.log
        assert secret.encode() not in in_redis
        assert secret not in json.dumps(closed.errors)
