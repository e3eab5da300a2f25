"""The API keys on a tenant's page, and the end of a quarantine: who may what, shown once, on record."""

import re
from datetime import timedelta

import pytest

from cgk_tasks.api_keys.keys import authenticate, create_key, list_keys
from cgk_tasks.dashboard import audit
from cgk_tasks.errors import RequestRefusedError
from cgk_tasks.flow.pauses import list_pauses
from cgk_tasks.flow.quarantine import look
from cgk_tasks.sql.postgres import autocommit

KEYS = "/tenants/acme/keys"


@pytest.fixture(autouse=True)
def without_keys(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.api_keys, cgk.audit RESTART IDENTITY")


def post(browser, path, **fields):
    """As a form of the page would, whether the page has it or not."""
    return browser.post(f"{browser.base}{path}", data={"_xsrf": browser.cookies["_xsrf"], **fields}, timeout=30)


def make(ada, **fields):
    given = {"name": "shop", "scopes": "send:order.*, read", "days": "30"} | fields
    return ada.submit(ada.open("/tenants/acme"), KEYS, **given)


def shown_key(answer):
    return re.search(r'<code id="key">(cgk_[^<]+)</code>', answer.text)[1]


def lines():
    return [(line.who, line.action, line.subject, line.tenant_id, line.outcome) for line in audit.lines()]


def test_a_key_is_made_and_shown_once(ada):
    answer = make(ada)
    secret = shown_key(answer)
    key = authenticate(secret)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (key.tenant_id, key.name, key.scopes, key.created_by) == ("acme", "shop", ("send:order.*", "read"), "ada")
    assert (key.expires_at - key.created_at) / timedelta(days=1) == pytest.approx(30, abs=0.01)
    assert secret not in ada.open("/tenants/acme").text
    assert lines() == [("ada", "create API key", "acme", "acme", "done")]
    assert key.prefix in audit.lines()[0].message
    assert secret[-43:] not in str(audit.lines())


def test_a_key_without_an_end_is_made_where_that_is_chosen(ada):
    make(ada, days="0")
    (key,) = list_keys("acme")
    assert key.expires_at is None


def test_the_page_lists_what_is_known_of_each_key_for_all_who_may_look(ada, dashboard):
    authenticate(shown_key(make(ada)))
    (key,) = list_keys("acme")
    text = dashboard.browser("viola").open("/tenants/acme").text
    row = " ".join(text[text.index(f'id="k-{key.id}"') :].partition("</tr>")[0].split())
    for part in (key.prefix, "shop", "send:order.* read", "active", "ada, "):
        assert part in row
    assert "never" not in row
    assert "<form" not in row


def test_another_tenants_keys_are_not_on_the_page(ada):
    other = create_key("globex", ["read"])
    assert other.prefix not in ada.open("/tenants/acme").text


def test_a_key_is_rotated_and_the_old_one_counts_for_the_time_that_is_chosen(ada):
    old = shown_key(make(ada))
    (first,) = list_keys("acme")
    new = shown_key(ada.submit(ada.open("/tenants/acme"), f"{KEYS}/{first.id}/rotate", keep_hours="168"))
    assert authenticate(new).scopes == authenticate(old).scopes
    assert lines()[0] == ("ada", "rotate API key", first.id, "acme", "done")


def test_a_key_that_is_rotated_may_end_at_once(ada):
    old = shown_key(make(ada))
    (first,) = list_keys("acme")
    ada.submit(ada.open("/tenants/acme"), f"{KEYS}/{first.id}/rotate", keep_hours="0")
    with pytest.raises(RequestRefusedError):
        authenticate(old)


def test_an_operator_revokes_a_key(ada, oscar):
    secret = shown_key(make(ada))
    (key,) = list_keys("acme")
    answer = oscar.submit(oscar.open("/tenants/acme"), f"{KEYS}/{key.id}/revoke")
    assert f"The key {key.prefix} is revoked" in answer.text
    assert "revoked" in answer.text
    with pytest.raises(RequestRefusedError):
        authenticate(secret)
    assert lines()[0] == ("oscar", "revoke API key", key.id, "acme", "done")


def test_who_is_no_admin_makes_and_rotates_none(oscar):
    key = create_key("acme", ["read"])
    page = oscar.open("/tenants/acme").text
    assert f'action="{KEYS}"' not in page
    assert "/rotate" not in page
    refused = [post(oscar, KEYS, scopes="read"), post(oscar, f"{KEYS}/{key.id}/rotate")]
    assert [answer.status_code for answer in refused] == [403, 403]
    assert [one.id for one in list_keys("acme")] == [key.id]


def test_a_viewer_revokes_none(dashboard):
    key = create_key("acme", ["read"])
    viola = dashboard.browser("viola")
    viola.open("/tenants/acme")
    assert post(viola, f"{KEYS}/{key.id}/revoke").status_code == 403
    assert list_keys("acme")[0].state == "active"


@pytest.mark.parametrize("path", [KEYS, f"{KEYS}/{{id}}/rotate", f"{KEYS}/{{id}}/revoke"])
def test_a_form_of_another_site_changes_nothing(ada, path):
    key = create_key("acme", ["read"])
    ada.open("/tenants/acme")
    answer = ada.post(f"{ada.base}{path.format(id=key.id)}", data={"scopes": "read"}, timeout=30)
    assert answer.status_code == 403
    assert [(one.id, one.state) for one in list_keys("acme")] == [(key.id, "active")]


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_another_tenants_key_is_not_found_there(ada, action):
    key = create_key("globex", ["read"])
    ada.open("/tenants/acme")
    assert post(ada, f"{KEYS}/{key.id}/{action}").status_code == 404
    assert list_keys("globex")[0].state == "active"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scopes": "write"}, "write"),
        ({"scopes": ""}, "scopes"),
        ({"days": "-1"}, "days must be from 0"),
        ({"days": "soon"}, "days must be a whole number"),
        ({"name": "x" * 101}, "at most 100"),
    ],
)
def test_what_cannot_be_is_said_and_makes_no_key(ada, fields, said):
    answer = make(ada, **fields)
    assert (answer.status_code, said in answer.text) == (400, True)
    assert list_keys("acme") == []


@pytest.fixture
def quarantined(setting):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.run_history, cgk.pauses, cgk.quarantines")
        connection.execute(
            "INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, run_at,"
            " created_at, closed_at) SELECT gen_random_uuid(), 'acme', 'order.created', 'failed', 'q', 5, '{}', now(),"
            " now(), now() FROM generate_series(1, 12)"
        )
    setting(CGK_QUARANTINE="true", CGK_QUARANTINE_RUNS="10")
    assert look() == ["acme"]


def test_a_quarantine_is_shown_and_an_operator_ends_it(quarantined, oscar, dashboard):
    assert "12 of 12 runs failed" in dashboard.browser("viola").open("/tenants/acme").text
    assert "/end-quarantine" not in dashboard.browser("viola").open("/tenants/acme").text
    path = "/tenants/acme/end-quarantine"
    answer = oscar.submit(oscar.open("/tenants/acme"), path, reason="their key is valid again")
    assert "The quarantine of acme has ended" in answer.text
    assert "comes back" in answer.text
    assert path not in answer.text
    assert list_pauses() == []
    assert lines()[0] == ("oscar", "end quarantine", "acme", "acme", "done")
    assert audit.lines()[0].message == "their key is valid again"


def test_a_tenant_that_is_in_none_has_no_word_of_it(oscar):
    assert "Quarantine" not in oscar.open("/tenants/globex").text
