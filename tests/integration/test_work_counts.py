"""How many runs of each event and job were sent and closed, how long they ran and waited: each counted once."""

import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cgk_tasks.config import get_settings
from cgk_tasks.runs import counts as run_counts
from cgk_tasks.runs.counts import count_runs
from cgk_tasks.runs.models import first_run_id, new_run_id
from cgk_tasks.runs.work_times import bucket_seconds
from cgk_tasks.sql.postgres import autocommit
from tests.support.counting import count_all, counts, forget_all_counts

CLOSED = """
INSERT INTO cgk.run_history (id, tenant_id, event, job, state, queue, priority, sealed_payload, run_at, created_at,
                             started_at, closed_at, worker_id)
VALUES (%(id)s, %(tenant)s, %(event)s, %(job)s, %(state)s, 'q', 5, '{}', %(due)s, %(due)s, %(started)s, %(at)s,
        %(worker)s)
"""


@pytest.fixture(autouse=True)
def nothing_counted(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.run_history")
    forget_all_counts()


@pytest.fixture
def minute():
    """The begin of a minute that is over."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=6)


def closed(at, state="completed", *, event="order.created", job="send-receipt", tenant="acme", ran=0.5, waited=0.1,
           worker=True, connection=None):  # fmt: skip
    values = {
        "id": str(uuid.UUID(first_run_id(at)[:13] + new_run_id()[13:])), "tenant": tenant, "event": event, "job": job,
        "state": state, "at": at, "started": at - timedelta(seconds=ran),
        "due": at - timedelta(seconds=ran + waited), "worker": str(uuid.uuid4()) if worker else None,
    }  # fmt: skip
    if connection is not None:
        connection.execute(CLOSED, values)
        return
    with autocommit() as own:
        own.execute(CLOSED, values)


def work(seconds=60, columns="accepted, closed, failed"):
    """By event and job, summed over time."""
    sums = ", ".join(f"sum({one.strip()})::int" for one in columns.split(","))
    with autocommit() as connection:
        rows = connection.execute(
            f"SELECT event, job, {sums} FROM cgk.work_counts WHERE seconds = %s GROUP BY 1, 2", [seconds]
        ).fetchall()
    return {(event, job): tuple(values) for event, job, *values in rows}


def times(column, seconds=60):
    """How many runs of each length, in seconds."""
    with autocommit() as connection:
        rows = connection.execute(
            f"SELECT bucket, sum({column})::int FROM cgk.work_times WHERE seconds = %s"
            f" GROUP BY 1 HAVING sum({column}) > 0 ORDER BY 1",
            [seconds],
        ).fetchall()
    return [(round(bucket_seconds(bucket), 3), runs) for bucket, runs in rows]


def test_closed_runs_are_counted_by_event_and_job_and_sent_ones_by_event(minute):
    closed(minute)
    closed(minute, "failed", tenant="globex")
    closed(minute, "cancelled", job=None)
    closed(minute, event="order.fulfilled", job="tell-customer")
    count_runs()
    assert work() == {
        ("order.created", ""): (3, 1, 0),
        ("order.created", "send-receipt"): (0, 2, 1),
        ("order.fulfilled", ""): (1, 0, 0),
        ("order.fulfilled", "tell-customer"): (0, 1, 0),
    }


def test_the_counts_of_tenants_are_those_that_they_were(minute):
    closed(minute)
    closed(minute, "failed", event="order.fulfilled")
    count_runs()
    assert counts() == counts("") == {minute: (2, 2, 1)}


def test_lengths_are_those_of_completed_and_failed_runs_that_a_worker_had(minute):
    closed(minute, ran=0.2, waited=3.0)
    closed(minute, "failed", ran=0.2, waited=40.0)
    closed(minute, "cancelled", ran=7.0)
    closed(minute, ran=9.0, worker=False)  # the parent of an event's several jobs
    count_runs()
    assert times("ran") == [(pytest.approx(0.2, rel=0.1), 2)]
    assert times("waited") == [(pytest.approx(3.0, rel=0.1), 1), (pytest.approx(40.0, rel=0.1), 1)]


def test_what_took_no_time_or_less_is_among_the_shortest(minute):
    closed(minute, ran=-5.0, waited=0.0)
    count_runs()
    assert times("ran") == times("waited") == [(0.0, 1)]


def test_hours_are_the_sums_of_their_minutes_however_often_is_counted(minute):
    for hours in range(5):
        closed(minute - timedelta(hours=hours), "failed" if hours % 2 else "completed")
    count_all()
    count_all()
    assert work(3600)["order.created", "send-receipt"] == (0, 5, 2)
    assert work(3600)["order.created", ""] == (5, 0, 0)
    assert [runs for _, runs in times("ran", 3600)] == [5]


def test_a_run_whose_transaction_commits_late_is_in_its_hour_once(minute):
    with psycopg.connect(get_settings().database_url.get_secret_value()) as late:
        closed(minute, connection=late)
        closed(minute)
        count_all()
        assert work(3600) == {}
        late.commit()
    count_all()
    count_all()
    assert work(3600)["order.created", "send-receipt"] == (0, 2, 0)
    assert [runs for _, runs in times("waited", 3600)] == [2]


def test_minutes_are_forgotten_after_some_hours_once_they_are_in_their_hour(minute):
    with autocommit() as connection:
        for hours, seconds in ((1, 60), (5, 60), (5, 3600), (24 * 10, 3600)):
            connection.execute(
                "INSERT INTO cgk.work_counts (seconds, event, job, begin, closed)"
                " VALUES (%s, 'old', '', now() - make_interval(hours => %s), %s)",
                [seconds, hours, hours],
            )
            connection.execute(
                "INSERT INTO cgk.work_times (seconds, event, job, begin, bucket, ran, waited)"
                " VALUES (%s, 'old', '', now() - make_interval(hours => %s), 1, %s, 0)",
                [seconds, hours, hours],
            )
    count_all()
    assert work(60, "closed")["old", ""] == (1,)
    assert work(3600, "closed")["old", ""] == (5,)
    assert [times("ran", seconds) for seconds in (60, 3600)] == [[(0.0, 1)], [(0.0, 5)]]


def test_what_is_longer_ago_than_the_pages_show_is_counted_by_tenant_alone(minute, monkeypatch):
    monkeypatch.setattr(run_counts, "HOURS_OF_WORK_KEPT", timedelta(hours=3))
    closed(minute - timedelta(hours=6), event="old")
    closed(minute - timedelta(hours=1))
    count_all()
    assert {event for event, _ in work(3600)} == {"order.created"}
    assert sum(closed_runs for _, closed_runs, _ in counts(seconds=3600).values()) == 2


def test_a_database_that_has_no_such_tables_yet_counts_its_tenants(minute):
    closed(minute)
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.work_times RENAME TO work_times_away")
    try:
        count_all()
        assert counts() == {minute: (1, 1, 0)}
        assert counts(seconds=3600) != {}
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.work_times_away RENAME TO work_times")
    assert work() == {}
