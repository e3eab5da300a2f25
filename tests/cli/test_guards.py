"""`cgk-tasks limits guards`, `close-guard` and `open-guard`."""

import pytest

from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.rules import guard_rules
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def shopify(database):
    current_runtime().drop(LANES)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.rules, cgk.gates, cgk.guards, cgk.guard_states")
        LANES.current().note(connection, guard_rules([Guard("shopify", 20), Guard("account", 2, "tenant")]))


def test_guards_are_listed_as_they_are(cgk):
    lines = cgk("limits", "guards").out.splitlines()
    assert lines[0].split()[:4] == ["guard", "state", "limit", "most"]
    assert [line.split()[0] for line in lines[1:]] == ["account", "shopify"]
    (one,) = cgk("limits", "guards", "--guard", "shopify", "--json").json
    assert (one["state"], one["limit"], one["most"], one["opens_at"]) == ("open", 20, 20, None)


def test_a_guard_is_closed_for_a_time_and_opened(cgk):
    closed = cgk("limits", "close-guard", "shopify", "--for", "2h", "--reason", "maintenance", "--by", "ada")
    assert closed.out.startswith("shopify: closed until ")
    (one,) = cgk("limits", "guards", "--guard", "shopify", "--json").json
    assert (one["state"], one["cause"], one["reason"], one["shut_by"]) == ("closed", "shut", "maintenance", "ada")
    assert cgk("limits", "open-guard", "shopify", "--by", "bob").out == "shopify: open, 20 at once\n"
    history = cgk("limits", "history", "--subject", "shopify", "--json").json
    assert [(line["action"], line["who"]) for line in history] == [("open guard", "bob"), ("close guard", "ada")]


def test_a_guard_per_tenant_is_closed_for_a_tenant(cgk):
    assert cgk("limits", "close-guard", "account").code == 1
    assert cgk("limits", "close-guard", "account", "--tenant", "acme").out == "account: closed\n"
    assert [one["tenant_id"] for one in cgk("limits", "guards", "--guard", "account", "--json").json] == ["acme"]


def test_an_unknown_guard_fails_with_the_nearest_name(cgk):
    outcome = cgk("limits", "open-guard", "shopfy")
    assert (outcome.code, 'Did you mean "shopify"?' in outcome.err) == (1, True)


def test_two_ends_of_a_closure_are_refused(cgk):
    assert cgk("limits", "close-guard", "shopify", "--for", "2h", "--until", "2030-01-01T00:00Z").code == 2
