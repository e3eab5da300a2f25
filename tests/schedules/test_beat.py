"""Real beat processes: one leads, another takes over, and no tick is lost or made twice."""

import signal
from datetime import timedelta
from itertools import pairwise

import pytest

from cgk_tasks.schedules.health import leading_beat
from tests.schedules.beats import BeatProcess
from tests.schedules.conftest import rows, run_sql
from tests.support.waiting import wait_until

JOBS = ["tests.schedules.beat_jobs"]


@pytest.fixture
def start_beat(django):
    started = []

    def start(modules=JOBS, **env):
        beat = BeatProcess(modules, **env)
        started.append(beat)
        return beat

    yield start
    for beat in started:
        beat.stop()
        print(beat.log[-4000:])  # shown if the test failed


def ticks(schedule="test-each-second"):
    found = rows("SELECT scheduled_for, runs FROM cgk.schedule_ticks WHERE schedule = %(s)s ORDER BY 1", s=schedule)
    return [row["scheduled_for"] for row in found]


def wait_for_ticks(number, schedule="test-each-second", timeout=40.0):
    return wait_until(lambda: found if len(found := ticks(schedule)) >= number else None, timeout, f"{number} ticks")


def assert_every_second_made_each_tenants_run_once(seen):
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in pairwise(seen))
    made = rows(
        """SELECT scheduled_for, count(*) AS runs, count(DISTINCT tenant_id) AS tenants
             FROM (SELECT schedule, scheduled_for, tenant_id FROM cgk.runs
                   UNION ALL SELECT schedule, scheduled_for, tenant_id FROM cgk.run_history) AS run
            WHERE schedule = 'test-each-second' GROUP BY 1 ORDER BY 1"""
    )
    assert [row["scheduled_for"] for row in made][: len(seen)] == seen
    assert {(row["runs"], row["tenants"]) for row in made} == {(3, 3)}


def test_beat_ticks_every_second_and_starts_within_it(start_beat):
    start_beat()
    wait_for_ticks(5)
    late = rows("SELECT max(fired_at - scheduled_for) AS late FROM cgk.schedule_ticks WHERE given_up = 0")
    assert late[0]["late"] < timedelta(seconds=5)
    assert_every_second_made_each_tenants_run_once(ticks()[:5])


def test_when_the_leading_beat_is_killed_the_other_takes_over_and_no_tick_is_lost_or_doubled(start_beat):
    first, second = start_beat(), start_beat()
    wait_for_ticks(3)
    leader = leading_beat()
    dead, alive = (first, second) if leader in first.log else (second, first)
    dead.process.send_signal(signal.SIGKILL)
    killed_after = len(wait_for_ticks(3))
    wait_until(lambda: leading_beat() not in {leader, None}, 15.0, "the other beat leads")
    seen = wait_for_ticks(killed_after + 14)
    assert alive.process.poll() is None
    assert_every_second_made_each_tenants_run_once(seen)


def test_a_beat_that_is_stopped_lets_another_lead_at_once(start_beat):
    first = start_beat()
    wait_for_ticks(1)
    second = start_beat()
    wait_until(lambda: "beat: Starting..." in second.log or "beat_" in second.log, 30.0, "the second beat is up")
    assert first.stop() == 0
    wait_until(lambda: "beat_elected" in second.log, 15.0, "the second beat leads")


def test_an_operators_pause_and_new_time_reach_a_running_beat(start_beat):
    from cgk_tasks.schedules.periodic_tasks import set_enabled

    start_beat()
    wait_for_ticks(2)
    set_enabled("test-each-second", enabled=False)
    wait_until(lambda: not is_enabled("test-each-second"), 45.0, "beat knows of the pause")
    before = ticks()
    wait_for_ticks(len(ticks("test-two-seconds")) + 2, "test-two-seconds")
    assert ticks() == before


def is_enabled(name):
    return rows("SELECT is_enabled FROM cgk.schedules WHERE name = %(n)s", n=name)[0]["is_enabled"]


def test_a_row_that_an_operator_made_is_sent_once_an_interval(start_beat):
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    every = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.create(
        name="by hand", task="test.nobody", interval=every, kwargs='{"tenantId": "acme"}', enabled=True
    )
    start_beat(["tests.support.jobs"])
    sent = wait_until(
        lambda: (
            found
            if len(found := rows("SELECT idempotency_key FROM cgk.runs WHERE event = 'test.nobody'")) > 2
            else None
        ),
        40.0,
    )
    assert all(row["idempotency_key"].startswith("beat:by hand:") for row in sent)


def test_a_beat_whose_database_went_away_goes_on_when_it_is_back(start_beat):
    beat = start_beat()
    number = len(wait_for_ticks(2))
    run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database()"
    )
    forget_own_connections()
    seen = wait_for_ticks(number + 3)
    assert beat.process.poll() is None
    assert_every_second_made_each_tenants_run_once(seen)


def forget_own_connections():
    """This process's connections were cut as well."""
    from django.db import connection

    from cgk_tasks.sql.postgres import close_pools

    connection.close()
    close_pools()
