"""A beat's life with a clock that the tests move: seeding, operators, downtimes."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import define_job, late_schedules
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs.job_events import Route, note_job_events, noted_job_events
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.sql.postgres import autocommit
from tests.schedules.conftest import open_runs, rows, run_sql

START = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Beat:
    """One engine, started anew whenever a test says so."""

    def __init__(self, schedules):
        self.schedules = schedules
        self.now = START
        self.restart()

    def restart(self):
        from cgk_tasks.schedules.engine import Engine

        self.engine = Engine(self.schedules, lambda: self.now)
        self.engine.reload()

    def run_until(self, end):
        """Wake up whenever the engine wants to."""
        while self.now < end:
            pause = self.engine.tick()
            self.now = min(end, self.now + timedelta(seconds=max(pause, 0.001)))
        self.engine.tick()

    def down_until(self, end):
        self.now = end
        self.restart()


@pytest.fixture
def beat(django, make_schedule):
    def start(**options):
        options.setdefault("overlap", "allow")
        return Beat({"test.tick": make_schedule(**options)})

    return start


def ticks():
    return [row["scheduled_for"] for row in rows("SELECT scheduled_for FROM cgk.schedule_ticks ORDER BY 1")]


def row_of(name="test.tick"):
    from django_celery_beat.models import PeriodicTask

    return PeriodicTask.objects.select_related("crontab").get(name=name)


def set_hour(hour, name="test.tick"):
    from django_celery_beat.models import CrontabSchedule

    row = row_of(name)
    row.crontab = CrontabSchedule.objects.create(minute="0", hour=hour, timezone="UTC")
    row.save()


def test_a_schedule_ticks_at_its_times_and_at_no_others(beat):
    beat(cron="0 * * * *").run_until(START + 3 * HOUR)
    assert ticks() == [START + HOUR * n + timedelta(minutes=30) for n in range(3)]


def test_a_new_schedule_makes_up_for_nothing(beat):
    beat(cron="0 8 * * *", misfire="all").run_until(START + HOUR)
    assert ticks() == []


def test_a_restart_in_the_minute_of_a_tick_does_not_repeat_it(beat):
    one = beat(cron="0 9 * * *")
    one.run_until(START + timedelta(minutes=30, seconds=3))
    one.restart()
    one.run_until(START + HOUR)
    assert (len(ticks()), len(open_runs())) == (1, 3)


def test_after_a_downtime_once_makes_the_last_missed_tick_and_says_how_many_it_stands_for(beat):
    one = beat(cron="0 * * * *", misfire="once")
    one.down_until(START + 5 * HOUR)
    one.engine.tick()
    assert ticks() == [datetime(2026, 3, 2, 13, tzinfo=UTC)]
    assert rows("SELECT given_up FROM cgk.schedule_ticks")[0]["given_up"] == 4


def test_after_a_downtime_skip_makes_none_until_the_next_tick(beat):
    one = beat(cron="0 * * * *", misfire="skip")
    one.down_until(START + 5 * HOUR)
    one.engine.tick()
    assert ticks() == []
    one.run_until(START + 6 * HOUR)
    assert ticks() == [datetime(2026, 3, 2, 14, tzinfo=UTC)]


def test_after_a_downtime_all_makes_each_tick_up_to_its_maximum_age(beat):
    one = beat(cron="0 * * * *", misfire="all", max_age=3 * 3600)
    one.down_until(START + 5 * HOUR)
    one.engine.tick()
    assert [tick.hour for tick in ticks()] == [11, 12, 13]


def test_all_makes_every_missed_run_although_overlap_is_skip(beat):
    one = beat(cron="0 * * * *", misfire="all", overlap="skip")
    one.down_until(START + 3 * HOUR)
    one.engine.tick()
    assert len(open_runs()) == 9


def test_a_tick_that_is_missed_across_the_night_comes_once_and_not_early_the_next_day(beat):
    """Down from 02:30 to 06:10: the tick of 03:00 comes at 06:10, and the next at 03:00 sharp."""
    one = beat(cron="0 3 * * *")
    one.now = datetime(2026, 3, 3, 2, 30, tzinfo=UTC)
    one.restart()
    one.engine.tick()
    one.down_until(datetime(2026, 3, 3, 6, 10, tzinfo=UTC))
    one.run_until(datetime(2026, 3, 4, 4, tzinfo=UTC))
    assert ticks()[-2:] == [datetime(2026, 3, 3, 3, tzinfo=UTC), datetime(2026, 3, 4, 3, tzinfo=UTC)]


def test_seeding_again_changes_nothing(beat):
    one = beat()
    before = rows("SELECT * FROM cgk.schedules")
    one.restart()
    assert rows("SELECT * FROM cgk.schedules") == before


def test_what_an_operator_changed_is_kept_and_used(beat):
    one = beat(cron="0 9 * * *")
    set_hour("10")
    one.restart()
    one.run_until(START + 3 * HOUR)
    assert ticks() == [datetime(2026, 3, 2, 10, tzinfo=UTC)]
    assert row_of().crontab.hour == "10"


def test_a_new_time_makes_up_for_nothing(beat):
    one = beat(cron="0 23 * * *")
    one.now += 4 * HOUR
    set_hour("11")
    one.restart()
    one.engine.tick()
    assert ticks() == []


def test_a_change_of_the_table_reaches_the_rows_that_nobody_touched(beat):
    one = beat(cron="0 9 * * *")
    one.schedules = {
        "test.tick": Schedule("test.tick", "0 7 * * *", "Europe/Berlin", "test.behave", {"action": "echo"})
    }
    one.restart()
    assert (row_of().crontab.hour, str(row_of().crontab.timezone)) == ("7", "Europe/Berlin")


def test_a_change_of_the_table_does_not_undo_an_operators(beat):
    one = beat(cron="0 9 * * *")
    set_hour("10")
    one.schedules = {"test.tick": Schedule("test.tick", "0 7 * * *", "UTC", "test.behave", {"action": "echo"})}
    one.restart()
    assert row_of().crontab.hour == "10"


def test_a_paused_schedule_does_not_tick_and_makes_up_for_nothing_when_it_goes_on(beat):
    from cgk_tasks.schedules.periodic_tasks import set_enabled

    one = beat(cron="0 * * * *", misfire="all")
    set_enabled("test.tick", enabled=False)
    one.restart()
    one.run_until(START + 2 * HOUR)
    set_enabled("test.tick", enabled=True)
    one.restart()
    one.run_until(START + 3 * HOUR)
    assert [tick.hour for tick in ticks()] == [11]


def test_an_entry_that_left_the_table_is_switched_off_and_comes_back_with_it(beat):
    one = beat()
    entries, one.schedules = one.schedules, {}
    one.restart()
    assert row_of().enabled is False
    one.schedules = entries
    one.restart()
    assert row_of().enabled is True


def test_an_entry_that_an_operator_paused_stays_paused_when_it_comes_back(beat):
    from cgk_tasks.schedules.periodic_tasks import set_enabled

    one = beat()
    set_enabled("test.tick", enabled=False)
    entries, one.schedules = one.schedules, {}
    one.restart()
    one.schedules = entries
    one.restart()
    assert row_of().enabled is False


def test_an_interval_is_stored_as_one_and_ticks(beat):
    one = beat(cron="every 20m")
    one.run_until(START + HOUR)
    assert [tick.minute for tick in ticks()] == [40, 0, 20]
    assert row_of().interval.every == 20


def test_the_admin_shows_the_last_tick(beat):
    beat(cron="0 9 * * *").run_until(START + HOUR)
    assert (row_of().last_run_at, row_of().total_run_count) == (datetime(2026, 3, 2, 9, tzinfo=UTC), 1)


def test_the_whole_table_is_seeded_and_every_row_is_read_back_as_it_was(django, clean):
    from cgk_tasks import SCHEDULES
    from cgk_tasks.schedules.engine import Engine

    engine = Engine(SCHEDULES, lambda: START)
    engine.reload()
    found = rows("SELECT name, cron, timezone FROM cgk.schedules WHERE is_enabled")
    assert {row["name"]: (row["cron"], row["timezone"]) for row in found} == {
        one.name: (one.cron, one.timezone) for one in SCHEDULES.values()
    }


def test_a_schedule_that_does_not_tick_in_time_is_reported_as_late(beat):
    one = beat(cron="0 9 * * *")
    nine = datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert late_schedules(now=nine + timedelta(seconds=100)) == []
    (late,) = late_schedules(now=nine + timedelta(seconds=300))
    assert (late.name, late.expected_at, late.seconds_late) == ("test.tick", nine, 300)
    one.run_until(START + HOUR)
    assert late_schedules(now=nine + timedelta(seconds=300)) == []


def test_one_schedule_that_cannot_tick_does_not_hold_up_the_others(beat, make_schedule):
    run_sql(
        "INSERT INTO cgk.tenants (id, isolation, schema_name) VALUES ('platform', 'search_path', 'tenant_platform')"
    )
    one = beat(cron="0 9 * * *")
    one.schedules["test.other"] = make_schedule("test.other", cron="0 9 * * *", scope="platform")
    one.restart()
    one.now = datetime(2026, 3, 2, 9, tzinfo=UTC)
    pause = one.engine.tick()
    assert [row["schedule"] for row in rows("SELECT schedule FROM cgk.schedule_ticks")] == ["test.tick"]
    assert pause >= 1


@pytest.fixture
def without_job(beat):
    return beat(cron="0 * * * *", event="inventory.sync")


def say_that_a_worker_has_jobs_for(*events, hours_ago=0):
    with autocommit() as connection:
        note_job_events(connection, dict.fromkeys(events, Route()))
        connection.execute(
            "UPDATE cgk.job_events SET seen_at = now() - make_interval(hours => %s) WHERE event = ANY(%s)",
            (hours_ago, list(events)),
        )


def test_a_schedule_without_a_job_does_not_tick(without_job):
    without_job.run_until(START + 3 * HOUR)
    assert (ticks(), open_runs()) == ([], [])


def test_a_schedule_ticks_whose_job_only_the_workers_know(without_job):
    say_that_a_worker_has_jobs_for("inventory.sync")
    without_job.run_until(START + HOUR)
    assert len(ticks()) == 1


def test_what_workers_had_jobs_for_is_known_while_all_of_them_are_stopped_for_long(clean):
    say_that_a_worker_has_jobs_for("inventory.sync", hours_ago=24 * 7)
    assert noted_events() == {"inventory.sync"}


def test_a_job_that_no_worker_has_named_for_a_day_while_others_went_on_is_forgotten(clean):
    say_that_a_worker_has_jobs_for("inventory.sync", hours_ago=25)
    say_that_a_worker_has_jobs_for("order.created")
    assert noted_events() == {"order.created"}


def test_a_schedule_without_a_job_is_not_late(without_job):
    assert late_schedules(now=without_job.now + 3 * HOUR) == []
    without_job.run_until(START + 3 * HOUR)
    assert late_schedules(now=without_job.now) == []


def test_a_schedule_that_gets_a_job_goes_on_from_then(without_job):
    without_job.run_until(START + 3 * HOUR)
    define_job("sync", event="inventory.sync")(print)
    try:
        without_job.run_until(START + 4 * HOUR)
    finally:
        remove_job("sync")
    assert ticks() == [START + 3 * HOUR + timedelta(minutes=30)]


def test_a_beat_says_which_events_it_has_jobs_for(beat):
    beat()
    assert "test.behave" in noted_events()


def noted_events():
    with autocommit() as connection:
        return noted_job_events(connection)
