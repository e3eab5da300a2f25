"""What tenants used, by hours: of runs in the history, each counted once, whatever commits when."""

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cgk_tasks import SendItem, get_usage, send_job, send_jobs, set_tenant_limits, tenant_context
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    InvalidOptionError,
    QueueFullError,
    QuotaExceededError,
    TenantContextError,
    UnknownTenantError,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.monitoring import exporter
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runs.usage import count_closed_hours
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker.housekeeping import run_housekeeping
from tests.monitoring.exposition import samples
from tests.support.limits_jobs import Two
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import running_worker

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
"""That in which each test begins."""
CLOSED = """
INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, worker_id, run_at,
created_at,
                             started_at, closed_at)
VALUES (%s, %s, 'usage.event', %s, 'q', 5, '{}', %s, %s, %s, %s, %s)
"""


class Refused(TenantEvent, event="usage.refused"):
    """Of which nobody has a job."""


@pytest.fixture(autouse=True)
def nothing_used(database, monkeypatch):
    """Two hours ago everything was counted, and nothing was there."""
    monkeypatch.setitem(globals(), "HOUR", datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.run_history, cgk.tenant_usage, cgk.tenant_limits, cgk.runs_of_days")
        connection.execute(
            "UPDATE cgk.usage_progress SET counted_until = %s, closing = NULL, before_xid = NULL",
            [HOUR - timedelta(hours=2)],
        )


def closed(hours_ago, *, tenant="acme", state="completed", waited=1.0, ran=2.0, worker=True, connection=None):
    """A run that was closed so many hours ago, and some minutes."""
    at = HOUR - timedelta(hours=hours_ago) + timedelta(minutes=10)
    started = at - timedelta(seconds=ran)
    due = started - timedelta(seconds=waited)
    values = [new_run_id(), tenant, state, new_run_id() if worker else None, due, due, started, at]
    if connection is not None:
        connection.execute(CLOSED, values)
        return
    with autocommit() as own:
        own.execute(CLOSED, values)


def count():
    """As the leader does: it sees that an hour is over, and later that nobody can add to it any more."""
    assert not count_closed_hours()
    wait_until(count_closed_hours, what="the hours are counted")


def used(**options):
    since = HOUR - timedelta(hours=5)
    return [
        (one.tenant_id, one.runs, one.failed, one.run_seconds, one.queue_seconds)
        for one in get_usage(since=since, until=HOUR + timedelta(hours=1), **options)
    ]


def counted():
    with autocommit() as connection:
        return connection.execute("SELECT tenant_id, hour, runs FROM cgk.tenant_usage ORDER BY 2, 1").fetchall()


def test_what_closed_is_there_before_and_after_it_is_counted():
    closed(2)
    closed(1, state="failed", ran=3.0)
    closed(0)
    closed(1, tenant="globex")
    before = used(by="total")
    count()
    assert before == used(by="total") == [("acme", 3, 1, 7.0, 3.0), ("globex", 1, 0, 2.0, 1.0)]


def test_only_hours_that_are_over_are_counted_and_each_once():
    for hours_ago in (2, 1, 0):
        closed(hours_ago)
    count()
    expected = [("acme", HOUR - timedelta(hours=2), 1), ("acme", HOUR - timedelta(hours=1), 1)]
    assert counted() == expected
    assert not count_closed_hours()
    assert counted() == expected


def test_a_run_whose_transaction_commits_late_is_not_missed(database):
    """It closed in an hour that is over, and nobody can see it yet."""
    with psycopg.connect(get_settings().database_url.get_secret_value()) as late:
        closed(1, connection=late)
        closed(1)
        assert not count_closed_hours()
        assert not count_closed_hours()
        assert counted() == []
        late.commit()
    wait_until(count_closed_hours)
    assert counted() == [("acme", HOUR - timedelta(hours=1), 2)]


def test_a_transaction_that_began_later_holds_nothing_up(database):
    closed(1)
    assert not count_closed_hours()
    with psycopg.connect(get_settings().database_url.get_secret_value()) as later:
        closed(0, connection=later)
        assert wait_until(count_closed_hours)


def test_two_leaders_count_an_hour_once():
    for _ in range(50):
        closed(1)
    assert not count_closed_hours()
    threads = [threading.Thread(target=count_closed_hours) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: counted() or count_closed_hours())
    assert counted() == [("acme", HOUR - timedelta(hours=1), 50)]


def test_usage_is_given_by_hour_day_and_month_of_utc():
    closed(1)
    closed(0)
    since = HOUR - timedelta(hours=1)
    assert [one.begin for one in get_usage("acme", since)] == [since, HOUR]
    day = HOUR.replace(hour=0)
    assert {one.begin for one in get_usage("acme", since, by="day")} <= {day, day - timedelta(days=1)}
    assert {one.begin.day for one in get_usage("acme", since, by="month")} == {1}


def test_times_are_taken_in_whole_hours():
    closed(1)
    inside = HOUR - timedelta(minutes=20)
    assert [one.runs for one in get_usage("acme", inside, inside + timedelta(minutes=1))] == [1]


def test_what_nobody_executed_has_no_seconds():
    closed(1, state="cancelled", worker=False)
    assert used(by="total") == [("acme", 1, 0, 0.0, 0.0)]


def test_runs_of_workers_have_the_time_that_they_took(tmp_path):
    with running_worker(["tests.support.limits_jobs"]):
        wait_closed(send_job(Two(tenant_id="acme", path=str(tmp_path), seconds=0.3)).id)
    (found,) = get_usage("acme", HOUR, by="total")
    assert (found.runs, found.failed) == (3, 0)  # and their parent
    assert 0.3 <= found.run_seconds < 5
    assert found.queue_seconds >= 0


def test_sends_that_are_refused_are_counted():
    set_tenant_limits("acme", max_waiting=1)
    with pytest.raises(QueueFullError):
        send_jobs([SendItem(Refused(tenant_id="acme"))] * 3)
    set_tenant_limits("acme", daily_runs=1, max_waiting=None)
    with pytest.raises(QuotaExceededError):
        send_jobs([SendItem(Refused(tenant_id="acme"))] * 2)
    assert [one.rejected for one in get_usage("acme", HOUR, by="total")] == [5]


def test_refused_sends_of_an_hour_stay_when_its_runs_are_counted():
    closed(1)
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.tenant_usage (tenant_id, hour, rejected) VALUES ('acme', %s, 7)",
            [HOUR - timedelta(hours=1)],
        )
    count()
    assert [(one.runs, one.rejected) for one in get_usage("acme", HOUR - timedelta(hours=1), HOUR)] == [(1, 7)]


def test_the_exporter_shows_the_last_hour_of_those_that_ran_longest(setting):
    setting(CGK_METRICS_TOP_TENANTS="1")
    closed(1, ran=10.0)
    closed(1, tenant="globex")
    closed(1, tenant="initech", state="failed")
    count()
    found = samples(exporter.exposition())
    assert found["cgk_tenant_hour_run_seconds", ("tenant", "acme")] == 10
    assert found["cgk_tenant_hour_runs", ("tenant", "other")] == 2
    assert found["cgk_tenant_hour_failed", ("tenant", "other")] == 1


def test_usage_is_forgotten_after_its_days(setting):
    setting(CGK_USAGE_DAYS="30")
    with autocommit() as connection:
        for days in (29, 31):
            connection.execute(
                "INSERT INTO cgk.tenant_usage (tenant_id, hour, runs) VALUES ('acme', %s, 1)",
                [HOUR - timedelta(days=days)],
            )
    run_housekeeping()
    assert [hour for _tenant, hour, _runs in counted()] == [HOUR - timedelta(days=29)]


def test_a_tenants_code_sees_its_own_usage_alone():
    closed(0)
    closed(0, tenant="globex")
    with tenant_context("acme"):
        assert [one.tenant_id for one in get_usage(since=HOUR)] == ["acme"]
        with pytest.raises(TenantContextError):
            get_usage("globex", HOUR)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "week"}, '"hour", "day", "month" or "total"'),
        ({"since": datetime(2026, 1, 1)}, "with a time zone"),  # noqa: DTZ001 - that is the mistake
        ({"since": HOUR, "until": HOUR - timedelta(hours=3)}, "must be after since"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        get_usage("acme", **options)


def test_an_unknown_tenant_is_refused():
    with pytest.raises(UnknownTenantError):
        get_usage("nobody")
