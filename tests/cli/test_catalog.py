"""`cgk-tasks catalog`."""

from collections.abc import Iterator

import pytest

from cgk_tasks import RetryConfig, define_job
from cgk_tasks.jobs import catalog_jobs
from cgk_tasks.jobs.registry import remove_job

ORDERS = "commerce/order-sync"
OWN = ("commerce-sync-order", "own-reconciliation", "commerce-order-comission", "escalation-check-scheduled")


@pytest.fixture
def jobs(setting) -> Iterator[None]:
    """An application's own: one that overrides, one that covers, one with a slip in its id, one by its second id."""
    setting(CGK_JOB_MODULES=None, CGK_SYSTEM_JOBS=None)

    def handler(ctx):
        return None

    define_job("commerce-sync-order", retry=RetryConfig(max_attempts=9), timeout=60)(handler)
    define_job("own-reconciliation", event="order.reconcile")(handler)
    define_job("commerce-order-comission", event="order.created")(handler)
    define_job("escalation-check-scheduled")(handler)
    yield
    for job_id in OWN:
        remove_job(job_id)


def states(rows):
    return {row["id"]: (row["state"], row["jobs"]) for row in rows}


def test_every_job_and_scheduled_task_is_listed(cgk, jobs):
    assert len(cgk("catalog", "list", "--json").json) == 225


def test_a_job_says_whether_it_is_defined_covered_or_missing(cgk, jobs):
    listed = states(cgk("catalog", "list", "--area", ORDERS, "--json").json)
    assert listed["commerce-sync-order"] == ("defined", ["commerce-sync-order"])
    assert listed["commerce-order-reconciliation-scheduled"] == ("covered", ["own-reconciliation"])
    assert listed["commerce-order-attribution"] == ("missing", [])


def test_a_job_is_covered_by_its_other_id(cgk, jobs):
    assert states(cgk("catalog", "list", "--json").json)["escalation-check"] == (
        "covered", ["escalation-check-scheduled"],
    )  # fmt: skip


def test_only_missing_jobs_are_listed_where_asked_for(cgk, jobs):
    rows = cgk("catalog", "list", "--area", ORDERS, "--missing", "--json").json
    assert {row["state"] for row in rows} == {"missing"}
    assert "commerce-sync-order" not in states(rows)


def test_an_unknown_area_is_wrong_usage_and_names_the_nearest(cgk, jobs):
    outcome = cgk("catalog", "list", "--area", "commerce/orders-sync")
    assert (outcome.code, f'Did you mean "{ORDERS}"?' in outcome.err) == (2, True)


def test_a_job_is_shown_with_its_schedule(cgk, jobs):
    shown = cgk("catalog", "show", "digest-admin-daily", "--json").json
    assert shown == {
        "id": "digest-admin-daily", "area": "scheduled/digests", "event": "digest.send",
        "where": {"digest": "adminDaily"}, "schedule": "digest.adminDaily", "retry": "3 attempts, 5 s to 60 s",
        "time_limit": 3600, "state": "missing", "jobs": [], "cron": "0 8 * * 1-5 America/New_York",
        "scope": "every active tenant", "scheduled_task": "digest-admin-daily-scheduled", "overridden": [],
    }  # fmt: skip


def test_a_job_is_shown_with_what_the_application_overrides(cgk, jobs):
    assert "9 attempts" in cgk("catalog", "show", "commerce-sync-order").out


def test_an_unknown_job_is_wrong_usage_and_names_the_nearest(cgk, jobs):
    outcome = cgk("catalog", "show", "bri-gmial-sync")
    assert (outcome.code, 'Did you mean "bri-gmail-sync"?' in outcome.err) == (2, True)


def test_a_check_names_what_is_missing_and_what_is_overridden_and_fails(cgk, jobs):
    outcome = cgk("catalog", "check", "--area", ORDERS, "--json")
    assert outcome.code == 1
    assert outcome.json["defined"] == ["commerce-sync-order"]
    assert "commerce-order-commission" in outcome.json["missing"]
    assert outcome.json["overridden"] == [
        {"id": "commerce-sync-order", "what": "retry", "catalog": "5 attempts, 2 s to 60 s",
         "here": "9 attempts, 1 s to 60 s"},
        {"id": "commerce-sync-order", "what": "time limit", "catalog": 3600, "here": 60},
    ]  # fmt: skip


def test_a_check_notices_a_slip_in_an_id(cgk, jobs):
    outcome = cgk("catalog", "check", "--area", ORDERS)
    assert "no job 'commerce-order-comission'. Did you mean \"commerce-order-commission\"?" in outcome.err


def test_a_check_succeeds_where_nothing_is_missing(cgk, jobs):
    define_job("analytics-attribution-ml-training")(lambda ctx: None)
    try:
        outcome = cgk("catalog", "check", "--area", "analytics/ml-training")
    finally:
        remove_job("analytics-attribution-ml-training")
    assert (outcome.code, outcome.out) == (0, "1 defined, 1 covered, 0 missing\n")


def test_without_a_catalog_there_is_nothing_to_check(cgk, setting, monkeypatch):
    setting(CGK_JOB_MODULES=None)
    monkeypatch.setattr(catalog_jobs, "catalog_jobs", lambda: None)
    catalog_jobs.known_jobs.cache_clear()
    try:
        outcome = cgk("catalog", "check")
    finally:
        monkeypatch.undo()
        catalog_jobs.known_jobs.cache_clear()
    assert (outcome.code, "has no jobs" in outcome.err) == (0, True)
