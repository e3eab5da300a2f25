"""Keys of the HTTP API: who has one may do what its scopes say, until it ends."""

import re
from datetime import timedelta

import pytest

from cgk_tasks.api_keys.keys import authenticate
from cgk_tasks.api_keys.scopes import may_send
from cgk_tasks.errors import (
    InvalidOptionError,
    RequestRefusedError,
    TenantContextError,
    UnknownKeyError,
    UnknownTenantError,
)
from cgk_tasks.gateway import create_key, list_keys, revoke_key, rotate_key
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import tenant_context
from cgk_tasks.tenancy.platform import PLATFORM_TENANT, ensure_platform_tenant

pytestmark = pytest.mark.usefixtures("database")


def made(tenant_id="acme", scopes=("read",), **options):
    key = create_key(tenant_id, scopes, **options)
    return key, key.secret.get_secret_value()


def let_pass(key, column, ago):
    """As if a time of the key were longer ago."""
    with autocommit() as connection:
        connection.execute(f"UPDATE cgk.api_keys SET {column} = now() - %s::interval WHERE id = %s", (ago, key.id))


def of_tenant(tenant_id, key_id):
    return next(key for key in list_keys(tenant_id) if key.id == key_id)


def audit_of(key):
    with autocommit() as connection:
        return fetch(
            connection,
            "SELECT action, who, tenant_id, message, details FROM cgk.audit WHERE subject = %(id)s ORDER BY id",
            {"id": key.id},
        )


def test_a_key_that_was_made_counts():
    key, secret = made(scopes=["send:order.*", "read"], name="shop")
    found = authenticate(secret)
    assert (found.id, found.tenant_id, found.scopes) == (key.id, "acme", ("send:order.*", "read"))


def test_the_database_has_nothing_of_the_secret():
    key, secret = made()
    with autocommit() as connection:
        (row,) = fetch(connection, "SELECT k::text AS whole FROM cgk.api_keys k WHERE id = %(id)s", {"id": key.id})
    assert secret.removeprefix(key.prefix) not in row["whole"]


def test_a_key_shows_its_secret_only_when_it_is_made():
    key, secret = made()
    assert secret not in repr(key)
    assert of_tenant("acme", key.id).secret is None


def test_two_keys_have_nothing_in_common():
    (one, first), (other, second) = made(), made()
    assert (one.prefix != other.prefix, first[-43:] != second[-43:]) == (True, True)


@pytest.mark.parametrize("place", [5, 16, 17, -1])
def test_a_key_with_another_character_is_no_key(place):
    _key, secret = made()
    other = "a" if secret[place] != "a" else "b"
    at = place % len(secret)
    with pytest.raises(RequestRefusedError) as refused:
        authenticate(secret[:at] + other + secret[at + 1 :])
    assert refused.value.status == 401


@pytest.mark.parametrize("text", ["", "cgk_", "Bearer", "cgk_0123456789ab_" + "x" * 42, "ü" * 60, "x" * 100_000])
def test_what_has_not_the_form_of_a_key_is_none(text):
    with pytest.raises(RequestRefusedError, match="form"):
        authenticate(text)


def test_a_key_whose_time_is_over_does_not_count():
    key, secret = made(expires=timedelta(hours=1))
    let_pass(key, "expires_at", "1 second")
    with pytest.raises(RequestRefusedError, match="over"):
        authenticate(secret)
    assert of_tenant("acme", key.id).state == "expired"


def test_a_revoked_key_does_not_count_any_more():
    key, secret = made()
    revoke_key(key.id)
    with pytest.raises(RequestRefusedError, match="revoked"):
        authenticate(secret)
    assert of_tenant("acme", key.id).state == "revoked"


def test_revoking_twice_is_revoking_once():
    key, _secret = made()
    assert revoke_key(key.id).revoked_at == revoke_key(key.id).revoked_at


def test_a_rotated_key_counts_beside_its_successor():
    old, secret = made(scopes=["send:order.*"], name="shop")
    new = rotate_key(old.id)
    found = authenticate(new.secret.get_secret_value())
    assert authenticate(secret).id == old.id
    assert (found.tenant_id, found.scopes, found.name) == ("acme", ("send:order.*",), "shop")


def test_a_rotated_key_ends_when_it_is_kept_no_longer():
    old, secret = made()
    rotate_key(old.id, keep_old=0)
    with pytest.raises(RequestRefusedError):
        authenticate(secret)


def test_rotation_does_not_let_the_old_key_live_longer():
    old, _secret = made(expires=timedelta(hours=1))
    rotate_key(old.id, keep_old=timedelta(days=1))
    assert of_tenant("acme", old.id).expires_at == old.expires_at


def test_the_successor_lives_as_long_as_the_old_one_was_to():
    old, _secret = made(expires=timedelta(days=90))
    new = rotate_key(old.id)
    assert new.expires_at - new.created_at == pytest.approx(timedelta(days=90), abs=timedelta(minutes=1))


def test_a_revoked_key_is_not_rotated():
    key, _secret = made()
    revoke_key(key.id)
    with pytest.raises(InvalidOptionError, match="revoked"):
        rotate_key(key.id)


def test_the_last_use_is_noted():
    key, secret = made()
    authenticate(secret)
    assert of_tenant("acme", key.id).last_used_at is not None


def test_the_last_use_is_written_once_a_minute():
    key, secret = made()
    authenticate(secret)
    first = of_tenant("acme", key.id).last_used_at
    authenticate(secret)
    assert of_tenant("acme", key.id).last_used_at == first
    let_pass(key, "last_used_at", "61 seconds")
    authenticate(secret)
    assert of_tenant("acme", key.id).last_used_at > first


def test_what_is_done_to_a_key_is_in_the_audit():
    key, _secret = made(by="ada", reason="the new shop")
    rotate_key(key.id, by="bob")
    revoke_key(key.id, by="cleo", reason="it was lost")
    said = [(row["action"], row["who"], row["tenant_id"], row["message"]) for row in audit_of(key)]
    assert said == [
        ("create API key", "ada", "acme", "the new shop"),
        ("rotate API key", "bob", "acme", ""),
        ("revoke API key", "cleo", "acme", "it was lost"),
    ]


def test_the_audit_has_nothing_of_the_secret():
    key, secret = made()
    assert secret[-43:] not in str(audit_of(key))


def test_keys_are_listed_of_one_tenant_or_of_all(new_tenant):
    key, _secret = made(new_tenant)
    assert [one.id for one in list_keys(new_tenant)] == [key.id]
    assert key.id in {one.id for one in list_keys()}


def test_a_tenants_own_code_sees_its_own_keys_alone():
    with tenant_context("acme"), pytest.raises(TenantContextError):
        list_keys("globex")


def test_a_tenants_own_code_revokes_no_key_of_another():
    key, _secret = made("globex")
    with tenant_context("acme"), pytest.raises(TenantContextError):
        revoke_key(key.id)


@pytest.mark.parametrize("key_id", ["nonsense", "", "01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11", "'; DROP TABLE cgk.runs"])
@pytest.mark.parametrize("action", [revoke_key, rotate_key])
def test_a_key_that_there_is_not_is_unknown(action, key_id):
    with pytest.raises(UnknownKeyError):
        action(key_id)


def test_a_key_needs_a_registered_tenant():
    with pytest.raises(UnknownTenantError):
        create_key("nobody", ["read"])


def test_there_are_no_keys_of_the_platform_which_sees_all_tenants():
    ensure_platform_tenant()
    with pytest.raises(InvalidOptionError, match="platform"):
        create_key(PLATFORM_TENANT, ["read"])


@pytest.mark.parametrize(
    "scopes", [[], ["write"], ["send"], ["send:"], ["send:order."], ["send:*.created"], ["send:order.*.x"], [None]]
)
def test_a_scope_that_there_is_not_is_refused(scopes):
    with pytest.raises(InvalidOptionError, match="scopes"):
        create_key("acme", scopes)


@pytest.mark.parametrize("expires", [0, -1, float("nan"), float("inf"), True, "1d", timedelta(days=50_000)])
def test_a_time_that_cannot_be_is_refused(expires):
    with pytest.raises(InvalidOptionError, match="expires"):
        create_key("acme", ["read"], expires=expires)


@pytest.mark.parametrize(
    ("pattern", "event", "may"),
    [
        ("send:*", "order.created", True),
        ("send:order.created", "order.created", True),
        ("send:order.created", "order.createdLater", False),
        ("send:order.*", "order.created", True),
        ("send:order.*", "order.line.added", True),
        ("send:order.*", "orders.created", False),
        ("send:order.*", "order", False),
        ("read", "read", False),
    ],
)
def test_a_pattern_means_the_events_that_begin_so(pattern, event, may):
    assert may_send([pattern], event) is may


def test_a_key_has_a_form_that_scanners_for_secrets_can_know():
    _key, secret = made()
    assert re.fullmatch(r"cgk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
