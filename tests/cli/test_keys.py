"""`cgk-tasks keys` and `cgk-tasks gateway --openapi`."""

import json

import pytest

from cgk_tasks.api_keys.keys import authenticate

pytestmark = pytest.mark.usefixtures("database")


def created(cgk, *options):
    return cgk("keys", "create", "acme", "--scope", "send:order.*", "--scope", "read", *options, "--json").json


def test_a_key_is_made_and_shown_once(cgk):
    key = created(cgk, "--name", "shop")
    assert authenticate(key["key"]).name == "shop"
    listed = cgk("keys", "list", "acme", "--json")
    assert key["id"] in {row["id"] for row in listed.json}
    assert key["key"][-43:] not in listed.out


def test_a_key_is_shown_to_people_with_a_word_on_what_it_is(cgk):
    outcome = cgk("keys", "create", "acme", "--scope", "read", "--expires", "90d")
    assert ("cgk_" in outcome.out, "shown this once" in outcome.err) == (True, True)


def test_keys_are_listed_as_a_table(cgk):
    key = created(cgk)
    assert key["id"] in cgk("keys", "list").out


def test_a_key_is_rotated(cgk):
    old = created(cgk)
    new = cgk("keys", "rotate", old["id"], "--keep-old", "0", "--json").json
    assert authenticate(new["key"]).tenant_id == "acme"
    assert {row["id"]: row["state"] for row in cgk("keys", "list", "acme", "--json").json}[old["id"]] == "expired"


def test_a_key_is_revoked(cgk):
    key = created(cgk)
    assert cgk("keys", "revoke", key["id"], "--by", "ada", "--reason", "lost").out == f"{key['id']}: revoked\n"
    assert {row["id"]: row["state"] for row in cgk("keys", "list", "acme", "--json").json}[key["id"]] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "nobody", "--scope", "read"), "cgk-tasks tenants add nobody"),
        (("create", "acme", "--scope", "write"), "send:order.created"),
        (("revoke", "nonsense"), "cgk-tasks keys list"),
    ],
)
def test_a_mistake_fails_with_what_to_do(cgk, arguments, said):
    outcome = cgk("keys", *arguments)
    assert (outcome.code, said in outcome.err) == (1, True)


def test_a_tenant_without_keys_is_told_how_to_make_one(cgk):
    assert "cgk-tasks keys create" in cgk("keys", "list", "initech").err


def test_the_openapi_document_is_written(cgk, tmp_path):
    file = tmp_path / "openapi.json"
    assert cgk("gateway", "--openapi", str(file)).code == 0
    assert "/v1/events/order.created" in json.loads(file.read_text())["paths"]
    assert cgk("gateway", "--openapi", "-").json["openapi"] == "3.1.0"
