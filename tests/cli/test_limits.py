"""`cgk-tasks plans`, `limits`, and what `tenants` says about limits."""

import pytest

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def nothing_set(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.plans, cgk.tenant_limits, cgk.job_limits, cgk.rules CASCADE")
        connection.execute("UPDATE cgk.flow_changes SET version = version + 1")


@pytest.fixture(autouse=True)
def jobs(setting):
    setting(CGK_JOB_MODULES="tests.support.limits_jobs")


def test_a_plan_is_made_listed_changed_and_removed(cgk):
    cgk("plans", "set", "pro", "--weight", "4", "--at-once", "50", "--starts", "1000/1m", "--by", "ada")
    (plan,) = cgk("plans", "list", "--json").json
    assert (plan["name"], plan["weight"], plan["at_once"], plan["starts"], plan["changed_by"]) == (
        "pro", 4, 50, [1000, 60], "ada",
    )  # fmt: skip
    changed = cgk("plans", "set", "pro", "--at-once", "none", "--max-waiting", "10,000", "--json").json
    assert (changed["at_once"], changed["weight"], changed["max_waiting"]) == (None, 4, 10_000)
    assert cgk("plans", "remove", "pro").out == "pro: removed\n"
    assert "There is no plan" in cgk("plans", "list").err


def test_the_table_of_plans_has_rates_as_the_option_takes_them(cgk):
    cgk("plans", "set", "pro", "--starts", "5/s")
    assert "5/1s" in cgk("plans", "list").out


def test_a_tenant_gets_a_plan_and_limits_of_its_own(cgk):
    cgk("plans", "set", "pro", "--at-once", "50", "--weight", "4")
    cgk("tenants", "set-plan", "acme", "pro")
    own = cgk("tenants", "set-limits", "acme", "--at-once", "80", "--json").json
    assert (own["plan"], own["weight"], own["at_once"], own["sources"]["at_once"]) == ("pro", 4, 80, "tenant")
    shown = cgk("tenants", "limits", "acme").out
    assert shown.startswith("acme: plan pro\n")
    assert ["at_once", "80", "tenant"] in [line.split() for line in shown.splitlines()]
    assert cgk("tenants", "set-plan", "acme", "none", "--json").json["plan"] is None


def test_an_unknown_plan_fails_with_the_nearest_name(cgk):
    cgk("plans", "set", "pro")
    outcome = cgk("tenants", "set-plan", "acme", "por")
    assert (outcome.code, 'Did you mean "pro"?' in outcome.err) == (1, True)
    assert cgk("plans", "remove", "por").code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weight", "0"), "must be a number from 0.001"),
        (("--at-once", "-1"), "must be a whole number from 1"),
        (("--at-once", "many"), "is no number"),
        (("--starts", "1000"), "Write it like 1000/60s"),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_can(cgk, options, message):
    outcome = cgk("plans", "set", "pro", *options)
    assert (outcome.code > 0, message in " ".join(outcome.err.split())) == (True, True)
    assert cgk("plans", "list", "--json").json == []


def test_a_limit_of_a_job_is_set_listed_and_removed(cgk):
    said = cgk(
        "limits", "set", "limits-single", "--at-once", "10", "--tenant", "acme", "--reason", "slow", "--by", "ada"
    )
    assert said.out == "limits-single: 10 at once, of acme\n"
    (row,) = cgk("limits", "list", "--tenant", "acme", "--json").json
    assert (row["job"], row["limit"], row["tenant"], row["source"], row["changed_by"], row["reason"]) == (
        "limits-single", "10 at once", "acme", "set", "ada", "slow",
    )  # fmt: skip
    assert cgk("limits", "remove", "limits-single", "--tenant", "acme").out == "limits-single: 1 limit removed\n"
    assert "Nothing was set there" in cgk("limits", "remove", "limits-single", "--tenant", "acme").err


def test_a_throttle_is_set_for_all_together(cgk):
    said = cgk("limits", "set", "limits-single", "--starts", "100/1m", "--burst", "10", "--per", "all")
    assert said.out == "limits-single: 100/60s, burst 10, in all\n"


def test_the_history_says_who_changed_what_and_why(cgk):
    cgk("limits", "set", "limits-single", "--at-once", "10", "--tenant", "acme", "--reason", "slow", "--by", "ada")
    cgk("limits", "set", "limits-single", "--at-once", "5", "--tenant", "acme", "--by", "bob")
    latest, first = cgk("limits", "history", "--tenant", "acme", "--limit", "2", "--json").json
    assert (first["who"], first["via"], first["reason"]) == ("ada", "cli", "slow")
    assert (latest["who"], latest["old"], latest["new"]) == ("bob", {"at_once": 10}, {"at_once": 5})
    assert "at_once 10 → 5" in cgk("limits", "history").out


@pytest.mark.parametrize(
    "options", [(), ("--at-once", "1", "--starts", "1/s"), ("--starts", "none"), ("--at-once", "1", "--per", "shop")]
)
def test_a_limit_is_one_thing(cgk, options):
    assert cgk("limits", "set", "limits-single", *options).code == 2


def test_an_unknown_job_fails_with_the_nearest_name(cgk):
    outcome = cgk("limits", "set", "limits-singel", "--at-once", "1")
    assert (outcome.code, 'Did you mean "limits-single"?' in outcome.err) == (1, True)


def test_what_does_not_count_yet_is_told(cgk):
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues) VALUES (gen_random_uuid(), 'older', 1, '{}')"
        )
    try:
        current_runtime().drop(SWITCH)
        outcome = cgk("limits", "set", "limits-single", "--at-once", "10")
    finally:
        with autocommit() as connection:
            connection.execute("DELETE FROM cgk.workers")
        current_runtime().drop(SWITCH)
    assert (outcome.code, "workers of an earlier release are alive" in outcome.err) == (0, True)
