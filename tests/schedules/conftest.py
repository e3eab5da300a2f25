"""Schedules of the tests' own, and a record of runs that is empty at the beginning of each test."""

from dataclasses import replace

import pytest

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.catalog import schedules as _entries  # noqa: F401 - there before a test adds its own
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.jobs.registry import add_job, find_job
from cgk_tasks.runtime import current_runtime
from cgk_tasks.schedules import schedule as registry
from cgk_tasks.schedules.schedule import Schedule, add_schedules
from cgk_tasks.sql.postgres import autocommit, execute, fetch
from tests.support import jobs  # noqa: F401 - the events test.behave and test.nobody

TABLES = (
    "failing_entries, "
    "runs, run_history, idempotency_keys, schedules, schedule_ticks, schedule_overrides, tenant_schedules, leases, "
    "job_events"
)


@pytest.fixture
def clean(database):
    """No runs, no ticks, the three tenants active."""
    names = ", ".join(f"cgk.{table.strip()}" for table in TABLES.split(","))
    with autocommit() as connection:
        connection.execute(f"TRUNCATE {names}")
        connection.execute("UPDATE cgk.tenants SET status = 'active'")
        connection.execute("DELETE FROM cgk.tenants WHERE id NOT IN ('acme', 'globex', 'initech')")
    before = dict(registry._schedules)
    yield
    registry._schedules.clear()
    registry._schedules.update(before)


@pytest.fixture
def make_schedule(clean):
    """A schedule that asks every tenant's test job for something."""

    def make(name="test.tick", cron="0 9 * * *", timezone="UTC", event="test.behave", payload=None, **options):
        payload = {"action": "echo"} if payload is None and event == "test.behave" else payload or {}
        schedule = Schedule(name, cron, timezone, event, payload, **options)
        add_schedules(schedule)
        return schedule

    return make


def rows(statement, **values):
    with autocommit() as connection:
        return fetch(connection, statement, values)


def run_sql(statement, **values):
    with autocommit() as connection:
        return execute(connection, statement, values)


def open_runs(schedule="test.tick"):
    return rows(
        "SELECT *, id::text AS id FROM cgk.runs WHERE schedule = %(s)s ORDER BY tenant_id, scheduled_for", s=schedule
    )


@pytest.fixture
def django(django_tables, clean):
    """Django set up in this process, and no rows of django-celery-beat."""
    from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

    for model in (PeriodicTask, CrontabSchedule, IntervalSchedule):
        model.objects.all().delete()


@pytest.fixture
def ruled():
    """Gives the job of the schedules' event other options, for one test."""
    before = find_job("test-behave")

    def change(**options):
        add_job(replace(before, **options))
        for part in (ROUTES, SWITCH):
            current_runtime().drop(part)

    yield change
    add_job(before)
