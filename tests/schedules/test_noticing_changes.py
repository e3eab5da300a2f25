"""A leading beat reads its rows again whenever they changed."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from cgk_tasks.sql.postgres import autocommit
from tests.schedules.conftest import rows


@pytest.fixture
def leading(django, make_schedule):
    """A scheduler that has looked at its rows once, and never before."""
    from django_celery_beat.models import PeriodicTasks

    from cgk_tasks import app
    from cgk_tasks.schedules.scheduler import CgkScheduler

    make_schedule(cron="0 9 1 1 *")
    PeriodicTasks.objects.all().delete()
    scheduler = CgkScheduler(app=app)
    scheduler.tick()
    yield scheduler
    scheduler.close()


def switch_off():
    from cgk_tasks.schedules.periodic_tasks import set_enabled

    set_enabled("test.tick", enabled=False)


def is_enabled():
    return rows("SELECT is_enabled FROM cgk.schedules WHERE name = 'test.tick'")[0]["is_enabled"]


def test_a_change_right_after_the_first_look_of_all_is_noticed(leading):
    switch_off()
    leading.tick()
    assert not is_enabled()


def test_a_change_from_a_machine_whose_clock_is_behind_is_noticed(leading):
    from django_celery_beat.models import PeriodicTasks

    leading.tick()
    switch_off()
    earlier = PeriodicTasks.last_change() - timedelta(hours=1)
    PeriodicTasks.objects.update(last_update=earlier)
    leading.tick()
    assert not is_enabled()


def test_what_keeps_a_beat_from_its_work_is_said_once_and_so_is_its_end(leading):
    with autocommit() as connection, capture_logs() as lines:
        connection.execute("ALTER TABLE cgk.schedules RENAME TO schedules_elsewhere")
        try:
            for _ in range(3):
                leading.tick()
        finally:
            connection.execute("ALTER TABLE cgk.schedules_elsewhere RENAME TO schedules")
        leading.tick()
    said = [line["event"] for line in lines if line["event"] != "beat_elected"]  # again, if the machine is that slow
    assert said == ["beat_unavailable", "beat_available"]
