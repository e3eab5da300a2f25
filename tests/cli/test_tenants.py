"""`cgk-tasks tenants`."""

import os

import pytest

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def new_id():
    return f"t{os.urandom(4).hex()}"


def test_a_tenant_is_added_with_its_schema(cgk, new_id):
    assert cgk("tenants", "add", new_id, "--json").json == {
        "id": new_id, "state": "active", "status": "active", "isolation": "role", "schema_name": f"tenant_{new_id}",
        "role_name": f"cgk_tenant_{new_id}",
    }  # fmt: skip


def test_schema_and_isolation_can_be_chosen(cgk, new_id):
    tenant = cgk("tenants", "add", new_id, "--schema", f"shop_{new_id}", "--isolation", "search_path", "--json").json
    assert (tenant["schema_name"], tenant["isolation"]) == (f"shop_{new_id}", "search_path")


def test_adding_again_changes_nothing(cgk, new_id):
    first = cgk("tenants", "add", new_id, "--json").json
    assert cgk("tenants", "add", new_id, "--json").json == first


def test_adding_again_with_another_schema_fails(cgk, new_id):
    cgk("tenants", "add", new_id)
    again = cgk("tenants", "add", new_id, "--schema", "other")
    assert (again.code, "is registered with schema" in again.err) == (1, True)


def test_a_malformed_id_fails(cgk):
    outcome = cgk("tenants", "add", "Acme Inc")
    assert (outcome.code, "is not a tenant id" in outcome.err) == (1, True)


def test_an_unknown_isolation_is_wrong_usage(cgk, new_id):
    assert cgk("tenants", "add", new_id, "--isolation", "hope").code == 2


def test_tenants_are_listed(cgk):
    assert {"acme", "globex", "initech"} <= {row["id"] for row in cgk("tenants", "list", "--json").json}


def test_the_table_for_people_has_every_tenant(cgk):
    assert "tenant_acme" in cgk("tenants", "list").out


def test_a_tenant_is_suspended_and_resumed(cgk, new_id):
    def status():
        return next(row["status"] for row in cgk("tenants", "list", "--json").json if row["id"] == new_id)

    cgk("tenants", "add", new_id)
    cgk("tenants", "suspend", new_id, "--by", "billing")
    suspended = status()
    cgk("tenants", "resume", new_id)
    assert (suspended, status()) == ("suspended", "active")


def test_suspending_an_unknown_tenant_fails_with_the_nearest_id(cgk):
    outcome = cgk("tenants", "suspend", "acmee")
    assert (outcome.code, 'Did you mean "acme"?' in outcome.err) == (1, True)


def test_a_tenants_own_setting_is_listed_without_its_value(cgk, new_id):
    cgk("tenants", "add", new_id)
    cgk("tenants", "set", new_id, "smtp_url", "-", stdin="smtps://user:planted@mail.example\n")
    listed = cgk("tenants", "settings", new_id, "--json")
    assert [row["name"] for row in listed.json] == ["smtp_url"]
    assert "planted" not in listed.out


def test_a_tenants_own_setting_is_removed(cgk, new_id):
    cgk("tenants", "add", new_id)
    cgk("tenants", "set", new_id, "email_from", "shop@shop.example")
    cgk("tenants", "set", new_id, "email_from", "--remove")
    assert cgk("tenants", "settings", new_id, "--json").json == []


def test_an_unknown_setting_fails_with_the_nearest_one(cgk, new_id):
    cgk("tenants", "add", new_id)
    outcome = cgk("tenants", "set", new_id, "smtp_uri", "smtp://host")
    assert (outcome.code, "Did you mean smtp_url?" in outcome.err) == (1, True)


def test_a_tenant_is_removed_after_a_question(cgk, new_id):
    cgk("tenants", "add", new_id)
    cgk("tenants", "suspend", new_id)
    asked = cgk("tenants", "remove", new_id, stdin="n\n")
    assert (asked.code, new_id in cgk("tenants", "list").out) == (1, True)
    removed = cgk("tenants", "remove", new_id, stdin="y\n")
    assert (removed.code, f"tenant_{new_id} is as it was" in removed.err) == (0, True)
    assert new_id not in cgk("tenants", "list").out


def test_a_tenant_is_removed_with_its_schema_unasked(cgk, new_id):
    cgk("tenants", "add", new_id)
    cgk("tenants", "suspend", new_id)
    removed = cgk("tenants", "remove", new_id, "--drop-schema", "--yes")
    assert (removed.code, removed.out.startswith(f"{new_id}: removed")) == (0, True)


def test_an_active_tenant_is_not_removed(cgk, new_id):
    cgk("tenants", "add", new_id)
    refused = cgk("tenants", "remove", new_id, "--yes")
    assert (refused.code, f"cgk-tasks tenants suspend {new_id}" in refused.err) == (1, True)
