"""`cgk-tasks tenants migrate`: the set-up function again, for every tenant."""

import os

import pytest

from cgk_tasks.config import get_settings, use_settings
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import add_tenant, suspend_tenant

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def use_hook():
    before = get_settings()

    def use(function):
        path = None if function is None else f"tests.support.tenant_setup:{function}"
        use_settings(before.model_copy(update={"tenant_setup": path}))

    yield use
    use_settings(before)


@pytest.fixture
def shops(use_hook):
    """Ids of three new tenants that have the table `widgets`; the second one is no good."""
    use_hook("make_widgets")
    begin = f"t{os.urandom(4).hex()}"
    ids = [f"{begin}-1", f"{begin}-2bad", f"{begin}-3"]
    for tenant_id in ids:
        add_tenant(tenant_id)
    yield ids
    for tenant_id in ids:
        suspend_tenant(tenant_id)


def named(ids):
    return [part for tenant_id in ids for part in ("--tenant", tenant_id)]


def tables_with_colour(ids):
    with autocommit() as connection:
        found = fetch(
            connection,
            """SELECT table_schema FROM information_schema.columns
                WHERE table_name = 'widgets' AND column_name = 'colour'
                AND table_schema = ANY(%(schemas)s)""",
            {"schemas": [f"tenant_{tenant_id}" for tenant_id in ids]},
        )
    return sorted(row["table_schema"].removeprefix("tenant_") for row in found)


def test_every_tenant_gets_the_change_and_its_role_may_use_it(cgk, shops, use_hook):
    use_hook("fail_for_some")
    good = [shops[0], shops[2]]
    outcome = cgk("tenants", "migrate", *named(good), "--json")
    assert (outcome.code, [one["tenant"] for one in outcome.json["done"]]) == (0, good)
    assert tables_with_colour(shops) == good


def test_without_names_it_is_for_all_active_tenants(cgk, shops, use_hook):
    suspend_tenant(shops[2])
    use_hook("make_widgets")
    done = {one["tenant"] for one in cgk("tenants", "migrate", "--json").json["done"]}
    assert {"acme", "globex", shops[0]} <= done
    assert not done & {shops[2], "platform"}


def test_it_stops_at_the_first_error_and_undoes_that_tenants_part(cgk, shops, use_hook):
    use_hook("fail_for_some")
    outcome = cgk("tenants", "migrate", *named([shops[1], shops[0], shops[2]]), "--jobs", "1", "--json")
    assert outcome.code == 1
    assert outcome.json == {
        "done": [], "failed": [{"tenant": shops[1], "error": "ValueError: no colour for this one"}],
        "skipped": [shops[0], shops[2]],
    }  # fmt: skip
    assert tables_with_colour(shops) == []


def test_with_keep_going_the_others_get_the_change(cgk, shops, use_hook):
    use_hook("fail_for_some")
    outcome = cgk("tenants", "migrate", *named(shops), "--keep-going", "--jobs", "2")
    assert (outcome.code, "2 of 3 tenants" in outcome.out, shops[1] in outcome.out) == (1, True, True)
    assert tables_with_colour(shops) == [shops[0], shops[2]]


def test_tenants_that_share_a_schema_come_one_after_the_other(cgk, use_hook):
    begin = f"t{os.urandom(4).hex()}"
    ids = [f"{begin}-{number}" for number in range(4)]
    use_hook(None)
    for tenant_id in ids:
        add_tenant(tenant_id, isolation="rls")
    use_hook("note_overlap")
    assert cgk("tenants", "migrate", *named(ids), "--jobs", "4").code == 0


def test_an_unknown_tenant_is_an_error_that_offers_the_nearest(cgk, use_hook):
    use_hook("make_widgets")
    outcome = cgk("tenants", "migrate", "--tenant", "acmee")
    assert (outcome.code, 'Did you mean "acme"?' in outcome.err) == (1, True)


def test_without_the_setting_it_says_what_to_set(cgk, use_hook):
    use_hook(None)
    outcome = cgk("tenants", "migrate")
    assert (outcome.code, "CGK_TENANT_SETUP is not set" in outcome.err) == (1, True)
