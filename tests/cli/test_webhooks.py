"""`cgk-tasks webhooks`."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.tenancy import add_tenant

pytestmark = pytest.mark.usefixtures("database")

URL = "http://127.0.0.1:9/hooks"


@pytest.fixture
def tenant_id(setting):
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1")
    return add_tenant(f"t{os.urandom(4).hex()}", isolation="search_path").id


def test_adding_prints_the_secret(cgk, tenant_id):
    assert "whsec_" in cgk("webhooks", "add", tenant_id, URL).out


def test_an_endpoint_is_listed_without_its_secret(cgk, tenant_id):
    added = cgk("webhooks", "add", tenant_id, URL, "--topic", "order.*", "--topic", "customer.created", "--json").json
    listed = cgk("webhooks", "list", tenant_id, "--json")
    assert [(row["id"], row["topics"], row["state"]) for row in listed.json] == [
        (added["id"], "order.*, customer.created", "active")
    ]
    assert "whsec_" not in listed.out


def test_an_endpoint_is_removed(cgk, tenant_id):
    added = cgk("webhooks", "add", tenant_id, URL, "--json").json
    cgk("webhooks", "remove", tenant_id, added["id"])
    assert cgk("webhooks", "list", tenant_id, "--json").json == []


def test_an_endpoint_is_enabled(cgk, tenant_id):
    added = cgk("webhooks", "add", tenant_id, URL, "--json").json
    assert cgk("webhooks", "enable", tenant_id, added["id"]).out == f"{added['id']}: active\n"


def test_an_unknown_endpoint_fails_with_what_to_do(cgk, tenant_id):
    outcome = cgk("webhooks", "remove", tenant_id, "nonsense")
    assert (outcome.code, f"cgk-tasks webhooks list {tenant_id}" in outcome.err) == (1, True)


def test_a_private_address_fails_with_what_to_do(cgk, tenant_id):
    outcome = cgk("webhooks", "add", tenant_id, "https://localhost/hooks")
    assert (outcome.code, "CGK_WEBHOOK_PRIVATE_HOSTS" in outcome.err) == (1, True)


def test_there_is_nothing_to_list_before_anything_was_delivered(cgk, tenant_id):
    assert cgk("webhooks", "deliveries", tenant_id, "--json").json == []


def test_a_state_that_is_none_is_wrong_usage(cgk, tenant_id):
    assert cgk("webhooks", "deliveries", tenant_id, "--state", "lost").code == 2


def test_a_secret_is_rotated_and_the_old_one_has_an_end(cgk, tenant_id):
    added = cgk("webhooks", "add", tenant_id, URL, "--json").json
    rotated = cgk("webhooks", "rotate-secret", tenant_id, added["id"], "--keep-old", "2h", "--json").json
    assert rotated["secret"] not in {None, added["secret"]}
    left = datetime.fromisoformat(rotated["old_secret_until"]) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)
    listed = cgk("webhooks", "list", tenant_id, "--json")
    assert listed.json[0]["old_secret_until"] == rotated["old_secret_until"]
    assert "whsec_" not in listed.out


def test_an_old_secret_can_end_at_once(cgk, tenant_id):
    added = cgk("webhooks", "add", tenant_id, URL, "--json").json
    rotated = cgk("webhooks", "rotate-secret", tenant_id, added["id"], "--keep-old", "0", "--json").json
    assert rotated["old_secret_until"] is None


def test_a_time_that_is_none_is_wrong_usage(cgk, tenant_id):
    added = cgk("webhooks", "add", tenant_id, URL, "--json").json
    assert cgk("webhooks", "rotate-secret", tenant_id, added["id"], "--keep-old", "a while").code == 2


# Sources of webhooks that are received


@pytest.fixture
def sources(monkeypatch):
    """One whose secret is set, and one whose is not."""
    from cgk_tasks import define_webhook
    from cgk_tasks.inbound.sources import remove_source

    monkeypatch.setenv("LISTED_SECRET", "hush")
    for name, secret in [("listed", "LISTED_SECRET"), ("unset", "UNSET_SECRET"), ("looked-up", str)]:
        define_webhook(name, scheme="github", secret=secret, event="order.created")(_ignored)
    yield
    for name in ("listed", "unset", "looked-up"):
        remove_source(name)


def _ignored(_delivery):
    return None


def test_sources_are_listed_with_what_they_need_and_what_came(cgk, sources):
    from cgk_tasks.inbound.counts import COUNTS

    for outcome in ("accepted", "accepted", "refused"):
        COUNTS.current().note("listed", outcome)
    COUNTS.current().write()
    rows = {row["name"]: row for row in cgk("webhooks", "sources", "--json").json}
    assert {name: rows[name]["secret"] for name in ("listed", "unset", "looked-up")} == {
        "listed": "set", "unset": "missing", "looked-up": "function",
    }  # fmt: skip
    assert (rows["listed"]["accepted"], rows["listed"]["refused"], rows["listed"]["tenant"]) == (2, 1, "in the path")
    shown = cgk("webhooks", "sources")
    assert ("listed" in shown.out, "hush" in shown.out + shown.err) == (True, False)


def test_a_source_that_is_defined_no_more_is_listed_with_what_came(cgk):
    from cgk_tasks.inbound.counts import COUNTS

    COUNTS.current().note("of before", "ignored")
    COUNTS.current().write()
    rows = {row["name"]: row for row in cgk("webhooks", "sources", "--json").json}
    assert (rows["of before"]["ignored"], rows["of before"].get("scheme")) == (1, None)
