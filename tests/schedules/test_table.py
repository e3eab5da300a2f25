"""The table: complete, readable from the top level, and valid."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from cgk_tasks import SCHEDULES, Schedule, define_cron_job
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.jobs.registry import find_job, remove_job
from cgk_tasks.schedules.schedule import PLATFORM, remove_schedule

ROOT = Path(__file__).parent.parent.parent

NAMED = {
    "ab.hourlyMetrics": ("15 * * * *", "UTC"), "ab.optimization": ("*/15 * * * *", "UTC"),
    "ab.orderReconciliation": ("15 * * * *", "UTC"), "ab.testScheduler": ("*/5 * * * *", "UTC"),
    "ab.nightlyReconciliation": ("0 2 * * *", "America/New_York"), "ab.dailySummary": ("0 8 * * *", "America/New_York"),
    "attribution.dailyMetrics": ("10 2 * * *", "UTC"), "attribution.mlTraining": ("0 4 * * *", "UTC"),
    "subscription.dailyBilling": ("0 6 * * *", "UTC"), "subscription.analytics": ("0 8 * * *", "UTC"),
    "ops.dailyCleanup": ("0 3 * * *", "UTC"), "digest.adminDaily": ("0 8 * * 1-5", "America/New_York"),
    "treasury.lowBalanceAlert": ("0 9,17 * * *", "America/New_York"),
    "digest.creatorWeekly": ("0 10 * * 1", "America/New_York"), "brandContext.staleDetection": ("0 9 * * 1", "UTC"),
    "payout.monthlySummary": ("0 9 1 * *", "America/New_York"),
    "payout.monthlyPLSnapshot": ("0 2 2 * *", "America/New_York"),
}  # fmt: skip


def test_the_named_schedules_have_their_times():
    assert {name: (SCHEDULES[name].cron, SCHEDULES[name].timezone) for name in NAMED} == NAMED


def test_each_of_the_67_scheduled_tasks_is_replaced_by_one_entry():
    replaced = [task for schedule in SCHEDULES.values() for task in schedule.replaces]
    assert (len(replaced), len(set(replaced))) == (67, 67)


def test_every_entry_but_those_for_the_platform_is_for_every_active_tenant():
    platform = {schedule.name for schedule in SCHEDULES.values() if schedule.scope == PLATFORM}
    assert platform == {
        "commerce.orderReconciliation", "review.emailQueue", "review.retryFailedEmails", "review.awaitingDelivery",
        "subscription.retryFailed", "subscription.upcomingReminder", "ops.healthCheckCritical", "ops.healthCheckFull",
        "ops.dailyCleanup",
    }  # fmt: skip


def test_the_file_at_the_top_level_is_the_table():
    assert dict(runpy.run_path(str(ROOT / "beat_schedule.py"))["SCHEDULES"]) == dict(SCHEDULES)


def test_importing_the_package_and_its_table_does_not_set_up_django():
    """Kombu imports a helper of Django's where there is one; what is slow is its database layer and the models."""
    code = "import cgk_tasks, sys; cgk_tasks.SCHEDULES; cgk_tasks.app; sys.exit('django.db' in sys.modules)"
    environment = {"JOBS_PROVIDER": "local", "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, env=environment).returncode == 0


@pytest.mark.parametrize("wrong", [
    {"cron": "0 25 * * *"}, {"timezone": "Mars/Olympus"}, {"misfire": "never"}, {"overlap": "x"}, {"scope": "acme"},
    {"spread": -1}, {"spread": 1e12}, {"spread": float("nan")}, {"max_age": 1e300},
    {"name": "with spaces"}, {"event": "analytics.track", "payload": {"event": "x"}},
])  # fmt: skip
def test_an_entry_that_could_never_work_is_refused(wrong):
    fine = {"name": "a", "cron": "0 9 * * *", "timezone": "UTC", "event": "ab.optimize"}
    with pytest.raises(ConfigurationError):
        Schedule(**{**fine, **wrong})


def test_an_application_adds_a_job_with_its_schedule():
    @define_cron_job("nightly-report", schedule="0 3 * * *", timezone="Europe/Berlin", spread=1800)
    def nightly_report(ctx):
        return None

    entry, job = SCHEDULES["nightly-report"], find_job("nightly-report")
    assert (entry.cron, entry.timezone, entry.event, entry.spread) == (
        "0 3 * * *",
        "Europe/Berlin",
        "cron.nightlyReport",
        1800,
    )
    assert (job.event, job.handler) == (entry.event, nightly_report)
    remove_job("nightly-report")
    remove_schedule("nightly-report")
