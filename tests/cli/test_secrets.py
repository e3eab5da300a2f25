"""`cgk-tasks secrets`, and what the doctor says about secrets."""

import os

import pytest

from cgk_tasks.builtin.tenant_settings import set_tenant_setting
from cgk_tasks.cli.doctor.secrets import judge
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import add_tenant

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def tenant_id():
    """With nobody else's secrets."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenant_settings; DELETE FROM cgk.webhook_endpoints")
    return add_tenant(f"t{os.urandom(4).hex()}", isolation="search_path").id


def row(key_id, secrets=1, tenants=1):
    return {"key_id": key_id, "secrets": secrets, "tenants": tenants}


def test_a_key_is_all_that_is_printed_and_it_works(cgk, setting, tenant_id):
    made = cgk("secrets", "key").out
    setting(CGK_ENCRYPTION_KEYS=made.strip())
    assert cgk("tenants", "set", tenant_id, "smtp_url", "smtp://planted@host").code == 0


def test_each_key_is_another(cgk):
    assert cgk("secrets", "key").out != cgk("secrets", "key").out


def test_without_a_key_storing_a_secret_says_how_to_make_one(cgk, setting, tenant_id):
    setting(CGK_ENCRYPTION_KEYS=None)
    outcome = cgk("tenants", "set", tenant_id, "smtp_url", "smtp://planted@host")
    assert (outcome.code, "cgk-tasks secrets key" in outcome.err, "planted" in outcome.err) == (1, True, False)


def test_rotating_says_how_many(cgk, setting, tenant_id):
    set_tenant_setting(tenant_id, "smtp_url", "smtp://planted@host")
    setting(CGK_ENCRYPTION_KEYS=f"{new_key()},{os.environ['CGK_ENCRYPTION_KEYS']}")
    assert (
        cgk("secrets", "rotate", "--dry-run").out
        == "1 with an older key, and 0 that were plain: would be encrypted with the newest key\n"
    )
    assert cgk("secrets", "rotate", "--json").json == {"rotated": 1, "lifted": 0, "unreadable": []}
    assert cgk("secrets", "rotate").out.startswith("0 with an older key")


def test_rotating_without_the_old_key_fails_and_names_the_secret(cgk, setting, tenant_id):
    set_tenant_setting(tenant_id, "smtp_url", "smtp://planted@host")
    setting(CGK_ENCRYPTION_KEYS=new_key())
    outcome = cgk("secrets", "rotate")
    assert (outcome.code, f'"smtp_url" of tenant "{tenant_id}"' in outcome.err, "planted" in outcome.err) == (
        1,
        True,
        False,
    )


def test_the_doctor_finds_secrets_that_the_present_keys_cannot_read(cgk, setting, tenant_id):
    set_tenant_setting(tenant_id, "smtp_url", "smtp://planted@host")
    setting(CGK_ENCRYPTION_KEYS=new_key())
    (finding,) = [one for one in cgk("doctor", "--json").json if one["check"] == "secrets"]
    assert (finding["level"], "1 secret of 1 tenant with the key" in finding["message"]) == ("FAIL", True)
    assert "planted" not in str(finding)


@pytest.mark.parametrize(
    ("stored", "keys", "level", "said"),
    [
        ([], (), "OK", "0 stored"),
        ([row("a", 3)], ("a",), "OK", "3 stored, all can be read here"),
        ([row("a", 3), row("b", 2)], ("a", "b"), "OK", "2 with an older key: cgk-tasks secrets rotate"),
        ([row(None, 2, 2)], ("a",), "WARN", "not encrypted: 2 secrets of 2 tenants"),
        ([row("c"), row(None)], ("a",), "FAIL", "1 secret of 1 tenant with the key c"),
        ([row("c")], (), "FAIL", "cannot be read"),
    ],
)
def test_the_doctor_on_secrets(stored, keys, level, said):
    finding = judge(stored, keys)
    assert (finding.level, said in finding.message) == (level, True)


def test_plain_secrets_without_a_key_need_both_steps():
    assert judge([row(None)], ()).advice.endswith("Run: cgk-tasks secrets rotate")
    assert "secrets key" in judge([row(None)], ()).advice
