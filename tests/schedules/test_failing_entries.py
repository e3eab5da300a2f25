"""Periodic tasks of an application's own: sent for their tenants, or marked as failing where an operator looks."""

import json
import sys
from datetime import timedelta

import pytest
from django.utils.timezone import now

from cgk_tasks.schedules import schedule as registry
from cgk_tasks.schedules.failing_entries import failing_entries
from tests.schedules.conftest import rows


@pytest.fixture
def scheduler(django, clean):
    """A leading beat, with no entry yet."""
    from cgk_tasks import app
    from cgk_tasks.schedules.scheduler import CgkScheduler
    from tests.integration import canvas_tasks  # noqa: F401 - the tasks that the entries name

    registry._schedules.clear()  # `clean` brings them back
    scheduler = CgkScheduler(app=app)
    scheduler.tick()
    yield scheduler
    scheduler.close()


def due_entry(scheduler, task="tests.integration.canvas_tasks.add", **fields):
    """Make an entry that is due, and let beat tick until nothing is."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    hourly, _made = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    row = PeriodicTask.objects.filter(name="own").first() or PeriodicTask(name="own", interval=hourly)
    row.task, row.last_run_at = task, now() - timedelta(hours=2)
    for name, value in {"args": [1, 2], **fields}.items():
        setattr(row, name, value if isinstance(value, bool) else json.dumps(value))
    row.save()
    for _ in range(4):
        scheduler.tick()
    row.refresh_from_db()
    return row


def tenants_of_runs():
    return [row["tenant_id"] for row in rows("SELECT tenant_id FROM cgk.runs ORDER BY tenant_id")]


def names_of_failing():
    return [one.name for one in failing_entries()]


def test_an_entry_without_a_tenant_is_marked_as_failing_and_not_counted(scheduler):
    row = due_entry(scheduler)
    (failing,) = failing_entries()
    assert (failing.name, failing.task) == ("own", row.task)
    assert "needs a tenant" in failing.reason
    assert (row.total_run_count, tenants_of_runs()) == (0, [])


def test_what_is_being_saved_when_beat_is_told_to_end_is_saved_at_its_end(scheduler, monkeypatch):
    from django_celery_beat.models import PeriodicTask
    from django_celery_beat.schedulers import ModelEntry

    with monkeypatch.context() as told:
        told.setattr(ModelEntry, "save", lambda _entry: sys.exit())  # as Celery's handler of SIGTERM does
        with pytest.raises(SystemExit):
            due_entry(scheduler, headers={"tenant": "acme"})
    scheduler.sync()
    assert PeriodicTask.objects.get(name="own").total_run_count == 1


def test_an_entry_that_names_its_tenant_in_its_headers_is_sent_and_counted(scheduler):
    row = due_entry(scheduler, headers={"tenant": "acme"})
    assert (row.total_run_count, tenants_of_runs(), failing_entries()) == (1, ["acme"], [])


def test_an_entry_that_names_its_tenant_in_its_arguments_is_sent(scheduler):
    task = "tests.integration.canvas_tasks.with_tenant_argument"
    due_entry(scheduler, task, args=[], kwargs={"tenant_id": "globex"})
    assert tenants_of_runs() == ["globex"]


def test_a_task_without_such_an_argument_does_not_get_it(scheduler):
    due_entry(scheduler, kwargs={"tenantId": "globex"})
    assert (tenants_of_runs(), failing_entries()) == (["globex"], [])


def test_an_entry_for_every_tenant_makes_a_run_for_each(scheduler):
    row = due_entry(scheduler, headers={"tenant": "*"})
    assert (row.total_run_count, tenants_of_runs()) == (1, ["acme", "globex", "initech"])


def test_the_setting_names_the_tenants_of_entries_that_name_none(scheduler, setting):
    setting(CGK_PERIODIC_TASKS_TENANT="*")
    due_entry(scheduler)
    assert tenants_of_runs() == ["acme", "globex", "initech"]


def test_an_entry_of_an_event_gets_its_tenant_as_a_field(scheduler):
    due_entry(scheduler, "test.behave", args=[], kwargs={"action": "echo"}, headers={"tenant": "acme"})
    assert tenants_of_runs() == ["acme"]


def test_an_entry_that_is_sent_again_fails_no_longer(scheduler):
    due_entry(scheduler)
    due_entry(scheduler, headers={"tenant": "acme"})
    assert names_of_failing() == []


def test_an_entry_that_is_switched_off_fails_no_longer(scheduler):
    due_entry(scheduler)
    due_entry(scheduler, enabled=False)
    assert names_of_failing() == []


def test_celerys_own_entry_for_old_results_is_passed_over(scheduler):
    due_entry(scheduler, "celery.backend_cleanup", args=[])
    assert (failing_entries(), tenants_of_runs()) == ([], [])


def test_doctor_the_alerts_and_the_health_check_tell_of_it(scheduler):
    from cgk_tasks.builtin.system.health import _schedules
    from cgk_tasks.cli.doctor.beat import check
    from cgk_tasks.monitoring.alerts import _missed_schedules

    due_entry(scheduler)
    assert [found.message for found in check() if "own (" in found.message]
    assert [alert.subject for alert in _missed_schedules()] == ["own"]
    assert _schedules() == "not sent: own"
