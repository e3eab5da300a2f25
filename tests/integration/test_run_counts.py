"""How many runs were sent and closed, by minutes, hours and days: each counted once, whatever commits when."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cgk_tasks import send_job
from cgk_tasks.config import get_settings
from cgk_tasks.runs import counts as run_counts
from cgk_tasks.runs.counts import count_and_log, count_runs
from cgk_tasks.runs.depths import note_depths
from cgk_tasks.runs.models import first_run_id, new_run_id
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker.housekeeping import run_housekeeping
from tests.support.counting import count_all, counts, forget_all_counts
from tests.support.lanes import note_used
from tests.support.limits_jobs import Two
from tests.support.waiting import wait_until
from tests.support.workers import running_worker

CLOSED = """
INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, sealed_errors, run_at,
                             created_at, started_at, closed_at)
VALUES (%(id)s, %(tenant)s, 'counted', %(state)s, 'q', 5, '{}', %(errors)s, %(at)s, %(at)s, %(started)s, %(at)s)
"""
OPEN = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, created_at)
VALUES (%(id)s, %(tenant)s, 'counted', %(state)s, %(queue)s, 5, '{}', %(at)s, %(at)s)
"""


@pytest.fixture(autouse=True)
def nothing_counted(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.run_history, cgk.used_shares, cgk.used_half_hours")
    forget_all_counts()


@pytest.fixture
def minute():
    """The begin of the minute before the last five: one that is over."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=6)


def id_at(moment):
    """A run's id of that time."""
    return str(uuid.UUID(first_run_id(moment)[:13] + new_run_id()[13:]))


def closed(at, state="completed", *, tenant="acme", failures=0, began=True, run_id=None, connection=None):
    values = {
        "id": run_id or id_at(at), "tenant": tenant, "state": state, "at": at, "errors": [b"{}"] * failures or None,
        "started": at if began else None,
    }  # fmt: skip
    if connection is not None:
        connection.execute(CLOSED, values)
        return
    with autocommit() as own:
        own.execute(CLOSED, values)


def opened(at, state="pending", *, tenant="acme", queue="q"):
    with autocommit() as connection:
        connection.execute(OPEN, {"id": id_at(at), "tenant": tenant, "state": state, "queue": queue, "at": at})


def whole(seconds, tenant="acme", columns="accepted, closed, failed"):
    rows = counts(tenant, seconds, columns).values()
    return tuple(sum(column) for column in zip(*rows, strict=True))


def test_runs_are_counted_in_the_minutes_in_which_they_were_sent_and_closed(minute):
    closed(minute)
    closed(minute + timedelta(seconds=59), "failed", run_id=id_at(minute - timedelta(minutes=2)))
    closed(minute + timedelta(minutes=1), "cancelled")
    opened(minute)
    count_runs()
    assert counts() == {
        minute - timedelta(minutes=2): (1, 0, 0),
        minute: (2, 2, 1),
        minute + timedelta(minutes=1): (1, 1, 0),
    }
    assert counts(columns="completed, cancelled")[minute + timedelta(minutes=1)] == (0, 1)


def test_attempts_and_retries_are_those_of_the_runs_that_closed(minute):
    closed(minute)
    closed(minute, "failed", failures=3)
    closed(minute, "completed", failures=1)
    closed(minute, "cancelled", began=False)
    count_runs()
    assert counts(columns="started, retried")[minute] == (1 + 3 + 2, 2 + 1)


def test_all_tenants_together_have_rows_of_their_own(minute):
    closed(minute)
    closed(minute, "failed", tenant="globex")
    count_runs()
    assert counts("") == {minute: (2, 2, 1)}
    assert counts("globex") == {minute: (1, 1, 1)}


def test_ids_of_other_producers_are_counted_by_when_they_came(minute):
    closed(minute, run_id=str(uuid.uuid4()))
    count_runs()
    assert counts() == {minute: (1, 1, 0)}


def test_hours_and_days_are_the_sums_of_their_minutes_however_often_is_counted(minute):
    for hours in range(25):
        closed(minute - timedelta(hours=hours), "failed" if hours % 2 else "completed")
    count_all()
    count_all()
    assert whole(3600) == whole(86_400) == (25, 25, 12)
    assert set(counts(seconds=3600)) == {(minute - timedelta(hours=hours)).replace(minute=0) for hours in range(25)}
    assert all(begin.hour == begin.minute == 0 for begin in counts(seconds=86_400))


def test_what_comes_later_into_a_minute_that_was_counted_is_counted_too(minute):
    closed(minute)
    count_runs()
    closed(minute)
    count_all()
    assert counts() == {minute: (2, 2, 0)}


def test_a_run_whose_transaction_commits_late_is_in_its_hour_once(minute):
    """It closed in a minute that is over, and nobody can see it yet."""
    with psycopg.connect(get_settings().database_url.get_secret_value()) as late:
        closed(minute, connection=late)
        closed(minute)
        count_all()
        count_all()
        assert counts() == {minute: (1, 1, 0)}
        assert counts(seconds=3600) == {}
        late.commit()
    count_all()
    count_all()
    assert counts() == {minute: (2, 2, 0)}
    assert whole(3600) == (2, 2, 0)


def test_two_leaders_count_once(minute):
    for _ in range(50):
        closed(minute - timedelta(hours=1))
    count_runs()
    threads = [threading.Thread(target=count_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count_all()
    assert whole(3600) == (50, 50, 0)


def test_what_is_on_record_from_before_is_added_to_hours_and_days_alone(minute):
    forget_all_counts(hours=100)
    closed(minute - timedelta(hours=70))
    count_all()
    assert counts() == {}
    assert whole(3600) == whole(86_400) == (1, 1, 0)


def test_what_tenants_had_of_the_workers_is_added_to_its_hour_once(minute):
    hours_ago = timedelta(hours=2)
    note_used("q", "acme", {120: 30.0})
    note_used("r", "acme", {120: 12.0})
    note_used("q", "globex", {120: 3.0})
    forget_all_counts(hours=5)
    count_all()
    count_all()
    began = (datetime.now(UTC) - hours_ago).replace(minute=0, second=0, microsecond=0)
    assert counts(seconds=3600, columns="busy_seconds") == {began: (42.0,)}
    assert counts("", 3600, "busy_seconds") == {began: (45.0,)}
    assert whole(86_400, columns="busy_seconds") == (42.0,)


def test_the_hour_that_goes_on_has_no_time_of_the_workers_yet():
    note_used("q", "acme", {0: 30.0})
    count_all()
    assert counts(seconds=3600, columns="busy_seconds") == {}


def test_what_waits_in_each_queue_is_looked_at():
    now = datetime.now(UTC)
    opened(now - timedelta(minutes=10))
    opened(now - timedelta(minutes=3), "held")
    opened(now + timedelta(hours=1), "scheduled")
    opened(now, queue="other")
    note_depths()
    with autocommit() as connection:
        found = connection.execute(
            "SELECT queue, waiting, round(oldest_seconds / 60) FROM cgk.queue_depths WHERE seconds = 3600 ORDER BY 1"
        ).fetchall()
    assert found == [("other", 1, 0), ("q", 2, 10)]


def test_of_several_looks_the_longest_queue_is_kept():
    opened(datetime.now(UTC) - timedelta(minutes=1))
    note_depths()
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs")
    opened(datetime.now(UTC))
    opened(datetime.now(UTC))
    note_depths()
    with autocommit() as connection:
        rows = connection.execute("SELECT waiting, oldest_seconds FROM cgk.queue_depths WHERE seconds = 3600")
        (waiting, oldest), *_ = rows.fetchall()
    assert waiting == 2
    assert oldest >= 60


def test_minutes_are_forgotten_after_two_days_and_hours_with_the_runs(setting):
    setting(CGK_HISTORY_DAYS="30")
    with autocommit() as connection:
        for seconds, days in ((60, 1), (60, 3), (3600, 29), (3600, 31), (86_400, 29), (86_400, 31)):
            connection.execute(
                "INSERT INTO cgk.run_counts (seconds, tenant_id, begin, closed)"
                " VALUES (%s, 'acme', now() - make_interval(days => %s), %s)",
                [seconds, days, days],
            )
    run_housekeeping()
    assert [whole(seconds, columns="closed") for seconds in (60, 3600, 86_400)] == [(1,), (29,), (29,)]


def test_a_database_that_is_not_migrated_yet_harms_nobody(caplog):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.count_progress RENAME TO count_progress_away")
    try:
        count_and_log()
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.count_progress_away RENAME TO count_progress")
    assert "runs_not_counted" not in caplog.text


def test_the_leader_of_the_workers_counts(tmp_path):
    run = send_job(Two(tenant_id="acme", path=str(tmp_path), seconds=0.0))
    assert run.id
    with running_worker(["tests.support.limits_jobs"]):
        wait_until(lambda: sum(row[0] for row in counts().values()) >= 1, what="the run is counted")


def test_counting_looks_at_no_more_than_an_hour_at_once(minute, monkeypatch):
    """However long nobody has counted."""
    asked = []
    execute = run_counts.execute
    monkeypatch.setattr(
        run_counts,
        "execute",
        lambda connection, statement, values: asked.append(values) or execute(connection, statement, values),
    )
    count_all()
    lengths = [values["end"] - values["begin"] for values in asked if "end" in values]
    assert len(lengths) > 20
    assert max(lengths) <= timedelta(hours=1)
