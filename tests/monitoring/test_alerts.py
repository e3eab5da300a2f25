"""What the operators must hear about comes as system.alert, once."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import get_job_status, send_job
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.monitoring.alerts import AlertWatch
from cgk_tasks.runs import store
from cgk_tasks.runs.job_events import Route, note_job_events
from cgk_tasks.schedules.health import SQL as SCHEDULES
from cgk_tasks.sql.postgres import autocommit, execute, fetch, transaction
from cgk_tasks.worker import recovery
from tests.monitoring.alert_jobs import Behave
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_alerts_of_others(database):
    recovery.lost_workers.clear()
    with transaction() as connection:
        for table in ("runs", "run_history", "idempotency_keys"):
            execute(connection, f"DELETE FROM cgk.{table}")


def alerts(kind):
    """The payloads of the alerts on record."""
    runs = store.listing(event="system.alert", limit=100)
    payloads = [get_job_status(run.id).payload for run in runs]
    return [payload for payload in payloads if payload["metadata"]["alert"] == kind]


def failed(start_worker):
    run = send_job(Behave(tenant_id="acme", action="fail_permanently")).id
    wait_closed(run)
    return run


@pytest.fixture(scope="module")
def worker(start_worker):
    """It leads, and looks every 0.2 s."""
    return start_worker(
        ["tests.monitoring.alert_jobs"],
        CGK_ALERTS="run_failed,worker_lost",
        CGK_ALERT_EVENTS="test.behave",
        CGK_ALERT_INTERVAL_SECONDS="0.2",
    )


def test_a_critical_run_that_fails_for_good_is_told_for_the_platform(worker):
    run = failed(worker)
    (alert,) = wait_until(lambda: alerts("run_failed"))
    assert alert["tenantId"] == "platform"
    assert alert["severity"] == "error"
    assert alert["metadata"]["runIds"] == [run]
    assert alert["metadata"]["tenants"] == ["acme"]
    assert alert["metadata"]["errorCode"] == "ACCOUNT_NOT_FOUND"


def test_a_worker_that_is_killed_is_told_by_the_leader(worker, start_worker):
    lost = start_worker(["tests.monitoring.alert_jobs"], CGK_DEFAULT_QUEUE=f"lost-{os.urandom(3).hex()}")
    lost.kill()
    (alert,) = wait_until(lambda: alerts("worker_lost"), timeout=40)
    assert alert["metadata"]["subject"] == lost.name


def test_a_worker_that_is_stopped_is_not_lost(worker, start_worker):
    leaving = start_worker(["tests.monitoring.alert_jobs"], CGK_DEFAULT_QUEUE=f"leaving-{os.urandom(3).hex()}")
    leaving.stop()
    with autocommit() as connection:
        assert not fetch(connection, "SELECT FROM cgk.workers WHERE name = %(name)s", {"name": leaving.name})
    assert alerts("worker_lost") == []


def closed_run(event="order.created", ago=0.0, tenant="acme"):
    """A failed run in the history."""
    with transaction() as connection:
        return fetch(
            connection,
            "INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, run_at,"
            " closed_at, error_code) VALUES (gen_random_uuid(), %(tenant)s, %(event)s, 'failed', 'q', 5, '{}', now(),"
            " now() - make_interval(secs => %(ago)s), 'NO_GOOD') RETURNING id::text",
            {"event": event, "ago": ago, "tenant": tenant},
        )[0]["id"]


def test_several_leaders_tell_the_same_thing_once(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="order.created")
    closed_run()
    assert AlertWatch().look() == 1
    closed_run()
    assert AlertWatch().look() == 0
    assert len(alerts("run_failed")) == 1


def test_the_same_leader_is_silent_until_the_window_is_over(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="order.created")
    watch = AlertWatch()
    closed_run()
    assert [watch.look(), watch.look()] == [1, 0]


def test_each_event_is_told_by_itself(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="order.created,order.delivered")
    closed_run("order.created")
    closed_run("order.delivered")
    assert AlertWatch().look() == 2


def test_a_failed_run_of_an_event_that_is_not_critical_is_not_told(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="order.created")
    closed_run("order.delivered")
    assert AlertWatch().look() == 0


def test_a_star_makes_every_event_critical_but_the_alert_itself(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="*")
    closed_run("order.delivered")
    closed_run("system.alert")
    assert AlertWatch().look() == 1


def test_what_failed_before_a_new_leader_looked_is_told_too(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="order.created", CGK_ALERT_WINDOW_SECONDS="3600")
    closed_run(ago=1800)
    assert AlertWatch().look() == 1


def test_a_run_that_waits_too_long_is_told_with_its_queue(setting):
    setting(CGK_ALERTS="queue_age", CGK_ALERT_QUEUE_AGE_SECONDS="60")
    run = send_job("order.created", {"tenantId": "acme", "orderId": "o", "totalAmount": 1.0}, queue="nobody-here").id
    assert AlertWatch().look() == 0
    with transaction() as connection:
        execute(connection, "UPDATE cgk.runs SET run_at = now() - interval '90 s' WHERE id = %(id)s", {"id": run})
    assert AlertWatch().look() == 1
    (alert,) = alerts("queue_age")
    assert alert["metadata"]["queue"] == "nobody-here"
    assert 90 <= alert["metadata"]["seconds"] < 120


@pytest.mark.parametrize(
    "change", ["handed_over_at = NULL", "state = 'retrying'", "handed_over_at = now(), priority = 9"]
)
def test_wherever_a_run_waits_its_age_is_seen(setting, change):
    setting(CGK_ALERTS="queue_age", CGK_ALERT_QUEUE_AGE_SECONDS="60")
    for queue in ("a-first", "b-second"):
        send_job("order.created", {"tenantId": "acme", "orderId": "o", "totalAmount": 1.0}, queue=queue)
    with transaction() as connection:
        execute(connection, f"UPDATE cgk.runs SET run_at = now() - interval '90 s', {change} WHERE queue = 'b-second'")
    assert AlertWatch().look() == 1
    assert alerts("queue_age")[0]["metadata"]["queue"] == "b-second"


@pytest.mark.parametrize("change", ["priority = 5", "handed_over_at = NULL", "state = 'retrying'", "state = 'held'"])
def test_what_waits_in_a_paused_queue_is_not_told_and_hides_nothing(setting, change):
    setting(CGK_ALERTS="queue_age", CGK_ALERT_QUEUE_AGE_SECONDS="60")
    for queue in ("is-paused", "goes-on"):
        send_job("order.created", {"tenantId": "acme", "orderId": "o", "totalAmount": 1.0}, queue=queue)
    with transaction() as connection:
        execute(
            connection, f"UPDATE cgk.runs SET run_at = now() - interval '2 hours', {change} WHERE queue = 'is-paused'"
        )
        execute(
            connection,
            "UPDATE cgk.runs SET run_at = now() - interval '1 hour', handed_over_at = NULL WHERE queue = 'goes-on'",
        )
    pause_queue("is-paused")
    try:
        AlertWatch().look()
    finally:
        resume_queue("is-paused")
    assert [alert["metadata"]["queue"] for alert in alerts("queue_age")] == ["goes-on"]


def test_a_delayed_run_is_not_old(setting):
    setting(CGK_ALERTS="queue_age", CGK_ALERT_QUEUE_AGE_SECONDS="0.001")
    send_job("order.created", {"tenantId": "acme", "orderId": "o", "totalAmount": 1.0}, delay=3600)
    assert AlertWatch().look() == 0


@pytest.fixture
def late():
    values = {
        "name": "test.missed", "event": "order.created", "cron": "* * * * *", "timezone": "UTC", "is_enabled": True,
        "is_listed": True, "seeded_cron": "* * * * *", "seeded_timezone": "UTC", "seeded_enabled": True,
        "done_until": datetime.now(UTC) - timedelta(hours=1),
    }  # fmt: skip
    with transaction() as connection:
        note_job_events(connection, {"order.created": Route()})
        fetch(connection, SCHEDULES["save_schedule"], values)
    yield
    with transaction() as connection:
        execute(connection, "DELETE FROM cgk.schedules WHERE name = 'test.missed'")
        execute(connection, "DELETE FROM cgk.leases WHERE name = 'beat'")


def test_schedules_that_nobody_ticks_are_one_alert(setting, late):
    setting(CGK_ALERTS="schedule_missed")
    assert AlertWatch().look() == 1
    (alert,) = alerts("schedule_missed")
    assert (alert["severity"], alert["metadata"]["subject"]) == ("critical", "beat")
    assert alert["metadata"]["schedules"] == ["test.missed"]


def test_a_schedule_that_is_late_under_a_leading_beat_is_told_by_its_name(setting, late):
    setting(CGK_ALERTS="schedule_missed")
    with transaction() as connection:
        execute(
            connection,
            "INSERT INTO cgk.leases VALUES ('beat', gen_random_uuid(), now() + interval '60 s')"
            " ON CONFLICT (name) DO UPDATE SET expires_at = EXCLUDED.expires_at",
        )
    AlertWatch().look()
    assert [alert["metadata"]["schedule"] for alert in alerts("schedule_missed")] == ["test.missed"]


def test_alerts_can_be_sent_for_a_tenant(setting):
    setting(CGK_ALERTS="run_failed", CGK_ALERT_EVENTS="order.created", CGK_ALERT_TENANT="globex")
    closed_run()
    AlertWatch().look()
    assert alerts("run_failed")[0]["tenantId"] == "globex"


def test_a_lost_worker_is_told_again_when_the_telling_failed(setting):
    setting(CGK_ALERTS="worker_lost", CGK_ALERT_TENANT="nobody-knows")
    recovery.lost_workers.append("w1@host")
    with pytest.raises(Exception, match="nobody-knows"):
        AlertWatch().look()
    assert list(recovery.lost_workers) == ["w1@host"]


def test_an_alert_that_there_is_not_is_refused_with_those_that_there_are(setting):
    setting(CGK_ALERTS="everything")
    with pytest.raises(ConfigurationError, match="run_failed"):
        get_settings()
