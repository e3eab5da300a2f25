"""Secrets at rest: encrypted, bound to their place, read with old keys, rotated, and never lost for a forgotten key."""

import subprocess
import sys

import pytest

from cgk_tasks.builtin.secrets.rotation import Rotation, rotate_secrets
from cgk_tasks.builtin.secrets.sealing import seal, unseal
from cgk_tasks.builtin.tenant_settings import set_tenant_setting, settings_of
from cgk_tasks.builtin.webhooks import add_endpoint, get_endpoint, list_endpoints
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.errors import ConfigurationError, SecretUnreadableError
from cgk_tasks.jobs.classification import classify_error
from cgk_tasks.sql.postgres import autocommit, execute, fetch

pytestmark = pytest.mark.usefixtures("database")

PLANTED = "smtps://user:planted-password@mail.example"
OLD, NEW = new_key(), new_key()


@pytest.fixture(autouse=True)
def keys(setting):
    """Only this test's secrets, and the keys that this process has: `keys(NEW, OLD)`."""
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1")
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenant_settings; DELETE FROM cgk.webhook_endpoints")

    def use(*some):
        setting(CGK_ENCRYPTION_KEYS=",".join(some))

    use(OLD)
    return use


def stored():
    with autocommit() as connection:
        return [row["value"] for row in fetch(connection, "SELECT value FROM cgk.stored_secrets")]


def change(sql, **values):
    with autocommit() as connection:
        assert execute(connection, sql, values) == 1


def store_plain(tenant_id, name, value):
    """As before there was encryption."""
    change(
        "INSERT INTO cgk.tenant_settings (tenant_id, name, value) VALUES (%(t)s, %(n)s, %(v)s)",
        t=tenant_id,
        n=name,
        v=value,
    )


def some_secrets(tenant_id):
    set_tenant_setting(tenant_id, "smtp_url", PLANTED)
    return add_endpoint(tenant_id, "http://127.0.0.1:9/")


class TestStoring:
    def test_neither_a_credential_nor_a_webhook_secret_is_in_the_database(self, tenant_id):
        endpoint = some_secrets(tenant_id)
        assert all(value.startswith("sealed:1:") for value in stored())
        assert not any(text in "".join(stored()) for text in ("planted", endpoint.secret.get_secret_value()))

    def test_they_are_read_again(self, tenant_id):
        endpoint = some_secrets(tenant_id)
        assert settings_of(tenant_id, "smtp_url") == {"smtp_url": PLANTED}
        assert get_endpoint(tenant_id, endpoint.id).secret == endpoint.secret

    def test_the_same_secret_twice_looks_different(self, tenant_id):
        assert seal("x", tenant_id="acme", name="smtp_url") != seal("x", tenant_id="acme", name="smtp_url")

    def test_a_senders_address_is_no_secret_and_needs_no_key(self, tenant_id, keys):
        keys()
        set_tenant_setting(tenant_id, "email_from", "hello@acme.example")
        assert settings_of(tenant_id, "email_from") == {"email_from": "hello@acme.example"}

    @pytest.mark.parametrize(
        "store",
        [lambda t: set_tenant_setting(t, "smtp_url", PLANTED), lambda t: add_endpoint(t, "http://127.0.0.1:9/")],
    )
    def test_without_a_key_storing_a_secret_fails_with_what_to_do(self, tenant_id, keys, store):
        keys()
        with pytest.raises(ConfigurationError, match="cgk-tasks secrets key"):
            store(tenant_id)
        assert stored() == []

    @pytest.mark.parametrize("wrong", ["planted", OLD[:-4], f"{NEW},x"], ids=["too short", "cut", "one of two"])
    def test_a_key_that_is_none_is_refused_without_quoting_it(self, tenant_id, keys, wrong):
        keys(wrong)
        with pytest.raises(ConfigurationError, match=r"CGK_ENCRYPTION_KEYS: .*secrets key") as refused:
            set_tenant_setting(tenant_id, "smtp_url", PLANTED)
        assert wrong not in str(refused.value)


class TestReading:
    def test_old_keys_still_read(self, tenant_id, keys):
        some_secrets(tenant_id)
        keys(NEW, OLD)
        assert settings_of(tenant_id, "smtp_url") == {"smtp_url": PLANTED}

    def test_what_was_stored_before_there_were_keys_is_read(self, tenant_id, keys):
        store_plain(tenant_id, "sms_url", "json://plain/{to}")
        keys()
        assert settings_of(tenant_id, "sms_url") == {"sms_url": "json://plain/{to}"}

    def test_another_tenants_secret_cannot_be_moved_here(self, tenant_id):
        some_secrets("acme")
        change("UPDATE cgk.tenant_settings SET tenant_id = %(t)s WHERE tenant_id = 'acme'", t=tenant_id)
        with pytest.raises(SecretUnreadableError, match=f'"smtp_url" of tenant "{tenant_id}".*another tenant'):
            settings_of(tenant_id, "smtp_url")

    def test_a_secret_cannot_be_moved_to_another_setting(self, tenant_id):
        some_secrets(tenant_id)
        change("UPDATE cgk.tenant_settings SET name = 'sms_url' WHERE tenant_id = %(t)s", t=tenant_id)
        with pytest.raises(SecretUnreadableError):
            settings_of(tenant_id, "sms_url")

    @pytest.mark.parametrize(
        "text", ["sealed:1:", "sealed:1:{id}:", "sealed:1:{id}:AAAA", "sealed:1:{id}:not base64", "{whole}A"]
    )
    def test_a_text_that_was_altered_is_an_error_of_ours(self, text):
        whole = seal(PLANTED, tenant_id="acme", name="smtp_url")
        with pytest.raises(SecretUnreadableError):
            unseal(text.format(id=whole.split(":")[2], whole=whole), tenant_id="acme", name="smtp_url")

    def test_a_missing_key_is_named_with_setting_and_tenant_and_is_tried_again(self, tenant_id, keys):
        some_secrets(tenant_id)
        keys(NEW)
        with pytest.raises(SecretUnreadableError) as failed:
            settings_of(tenant_id, "smtp_url")
        assert all(
            text in str(failed.value)
            for text in ("smtp_url", tenant_id, "CGK_ENCRYPTION_KEYS", stored()[0].split(":")[2])
        )
        assert not any(text in str(failed.value) for text in ("planted", "sealed", NEW))
        judged = classify_error(failed.value)
        assert (judged.kind, judged.code, judged.retry_after) == ("transient", "ENCRYPTION_KEY_MISSING", 60.0)

    def test_a_damaged_secret_fails_for_good(self):
        judged = classify_error(SecretUnreadableError("smtp_url", "acme", None))
        assert (judged.kind, judged.code) == ("permanent", "SECRET_DAMAGED")

    def test_a_secret_that_is_not_needed_does_not_matter(self, tenant_id, keys):
        some_secrets(tenant_id)
        keys(NEW)
        set_tenant_setting(tenant_id, "sms_url", "json://host/{to}")
        assert settings_of(tenant_id, "sms_url") == {"sms_url": "json://host/{to}"}
        assert len(list_endpoints(tenant_id)) == 1


class TestRotating:
    def test_everything_gets_the_newest_key_and_the_old_one_can_go(self, tenant_id, keys):
        endpoint = some_secrets(tenant_id)
        store_plain("acme", "sms_url", "json://plain/{to}")
        keys(NEW, OLD)
        assert rotate_secrets() == Rotation(rotated=2, lifted=1)
        keys(NEW)
        assert settings_of(tenant_id, "smtp_url") == {"smtp_url": PLANTED}
        assert settings_of("acme", "sms_url") == {"sms_url": "json://plain/{to}"}
        assert get_endpoint(tenant_id, endpoint.id).secret.get_secret_value().startswith("whsec_")

    def test_doing_it_again_changes_nothing(self, tenant_id, keys):
        some_secrets(tenant_id)
        keys(NEW, OLD)
        rotate_secrets()
        before = stored()
        assert (rotate_secrets(), stored()) == (Rotation(), before)

    def test_a_dry_run_counts_and_changes_nothing(self, tenant_id, keys):
        some_secrets(tenant_id)
        keys(NEW, OLD)
        before = stored()
        assert (rotate_secrets(dry_run=True), stored()) == (Rotation(rotated=2), before)

    def test_more_than_one_batch(self, keys, monkeypatch):
        monkeypatch.setattr("cgk_tasks.builtin.secrets.rotation._BATCH", 3)
        for tenant_id in ("acme", "globex"):
            for name in ("smtp_url", "sms_url", "slack_url", "push_url"):
                set_tenant_setting(tenant_id, name, PLANTED)
        keys(NEW, OLD)
        assert rotate_secrets() == Rotation(rotated=8)
        assert rotate_secrets() == Rotation()

    def test_what_cannot_be_read_stays_and_is_named_and_the_others_are_done(self, tenant_id, keys):
        keys(lost := new_key())
        set_tenant_setting(tenant_id, "smtp_url", PLANTED)
        keys(OLD)
        set_tenant_setting(tenant_id, "sms_url", "json://host/{to}")
        keys(NEW, OLD)
        done = rotate_secrets()
        assert (done.rotated, [error.name for error in done.unreadable]) == (1, ["smtp_url"])
        keys(lost)
        assert settings_of(tenant_id, "smtp_url") == {"smtp_url": PLANTED}


def test_cryptography_is_loaded_only_by_what_reads_or_stores_a_secret():
    # Its top module, which is next to nothing, is loaded by the Redis client.
    code = """
import sys
import cgk_tasks.builtin.email.jobs, cgk_tasks.builtin.messages, cgk_tasks.builtin.webhooks.jobs
import cgk_tasks.cli.doctor.secrets
assert not [name for name in sys.modules if name.startswith("cryptography.hazmat")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
