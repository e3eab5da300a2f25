"""What the exporter reads from PostgreSQL."""

import os
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cgk_tasks import send_job
from cgk_tasks.config import get_settings
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.monitoring import exporter, open_runs
from cgk_tasks.monitoring.metric_names import EXPORTER
from cgk_tasks.runs.job_events import Route, note_job_events
from cgk_tasks.sql.postgres import execute, fetch, statements, transaction
from cgk_tasks.tenancy import add_tenant, resume_tenant, suspend_tenant
from tests.monitoring.exposition import free_port, names, samples
from tests.support.waiting import wait_exit, wait_until

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def queue():
    """A queue of this test's own, in which nobody works."""
    return f"waiting-{os.urandom(4).hex()}"


@pytest.fixture
def served(queue):
    """A worker that is alive, and listens to the queue."""
    with transaction() as connection:
        execute(
            connection,
            "INSERT INTO cgk.workers (id, name, pid, queues) VALUES (gen_random_uuid(), %(name)s, 1, ARRAY[%(name)s])",
            {"name": queue},
        )
        # The presence that a real worker's first beat makes.
        execute(
            connection, "INSERT INTO cgk.presence SELECT id FROM cgk.workers WHERE name = %(name)s", {"name": queue}
        )
    yield queue
    with transaction() as connection:
        execute(connection, "DELETE FROM cgk.workers WHERE name = %(name)s", {"name": queue})
        execute(connection, "DELETE FROM cgk.presence WHERE worker_id NOT IN (SELECT id FROM cgk.workers)")


def send(queue, tenant="acme", **options):
    return send_job(
        "order.created", {"tenantId": tenant, "orderId": "o1", "totalAmount": 1.0}, queue=queue, **options
    ).id


def read():
    return samples(exporter.exposition())


def waiting(found, queue, gate):
    return found.get(("cgk_waiting_runs", ("gate", gate), ("queue", queue)), 0)


def test_every_metric_of_the_catalog_is_exposed_and_no_other(database):
    exposed = names(exporter.exposition())
    assert exposed == {spec.name.removesuffix("_total") for spec in EXPORTER}


def test_sends_that_a_rate_limit_did_not_accept_are_counted_by_their_rule(database):
    with transaction() as connection:
        for key, skipped in (("a", 2), ("b", 3)):
            execute(
                connection, "INSERT INTO cgk.buckets (rule, key, skipped) VALUES ('feed/rate_limit', %(key)s, %(n)s)",
                {"key": key, "n": skipped},
            )  # fmt: skip
    assert read()["cgk_sends_skipped_total", ("rule", "feed/rate_limit")] == 5


def test_a_run_that_nobody_fetches_could_run_now_and_its_age_is_shown(database, served):
    run = send(served)
    with transaction() as connection:
        execute(connection, "UPDATE cgk.runs SET run_at = now() - interval '90 s' WHERE id = %(id)s", {"id": run})

    found = read()

    assert waiting(found, served, "none") == 1
    assert 90 <= found["cgk_waiting_oldest_seconds", ("gate", "none"), ("queue", served)] < 120


def test_a_delayed_run_is_not_due(database, served):
    send(served, delay=3600)
    found = read()
    assert waiting(found, served, "not_due") == 1
    assert found["cgk_waiting_oldest_seconds", ("gate", "not_due"), ("queue", served)] == 0


def test_a_run_of_a_suspended_tenant_is_held_by_that(database, served):
    add_tenant("paused")
    send(served, "paused")
    suspend_tenant("paused", by="test")
    try:
        send(served, "paused")
        assert waiting(read(), served, "tenant_suspended") == 2
    finally:
        resume_tenant("paused")


def test_a_run_in_a_paused_queue_is_held_by_that_with_a_worker_or_without(database, served, queue):
    names = (served, f"{queue}-without")
    for name in names:
        send(name)
        pause_queue(name)
    try:
        found = read()
        assert [waiting(found, name, "queue_paused") for name in names] == [1, 1]
        assert [waiting(found, name, gate) for name in names for gate in ("none", "no_worker")] == [0] * 4
    finally:
        for name in names:
            resume_queue(name)
    assert waiting(read(), served, "none") == 1


def test_a_run_in_a_queue_without_a_worker_is_held_by_that(database, queue):
    send(queue)
    assert waiting(read(), queue, "no_worker") == 1


def test_a_run_that_waits_for_its_next_attempt_is_in_backoff(database, served):
    run = send(served, delay=3600)
    with transaction() as connection:
        execute(connection, "UPDATE cgk.runs SET state = 'retrying' WHERE id = %(id)s", {"id": run})
    assert waiting(read(), served, "backoff") == 1


def test_a_run_that_a_limit_holds_is_held_by_that(database, served):
    run = send(served)
    with transaction() as connection:
        execute(connection, "UPDATE cgk.runs SET state = 'held' WHERE id = %(id)s", {"id": run})
    assert waiting(read(), served, "limit") == 1


def test_nothing_of_a_payload_is_in_the_metrics(database, queue):
    payload = {"tenantId": "acme", "customerId": "c-1", "email": "long.john@example.org"}
    send_job("customer.created", payload, queue=queue)
    text = exporter.exposition()
    assert "customer.created" in text
    assert "long.john" not in text


def test_open_runs_are_counted_by_state_and_event(database, queue):
    before = read().get(("cgk_open_runs", ("event", "order.created"), ("state", "scheduled")), 0)
    send(queue, delay=3600)
    assert read()["cgk_open_runs", ("event", "order.created"), ("state", "scheduled")] == before + 1


def test_a_due_run_that_nobody_hands_over_is_the_dispatchers_lag(database, queue):
    run = send(queue, delay=3600)
    with transaction() as connection:
        execute(connection, "UPDATE cgk.runs SET run_at = now() - interval '300 s' WHERE id = %(id)s", {"id": run})
    assert read()["cgk_dispatcher_lag_seconds",] >= 300
    with transaction() as connection:
        execute(connection, "UPDATE cgk.runs SET state = 'pending' WHERE id = %(id)s", {"id": run})
    assert read()["cgk_dispatcher_lag_seconds",] >= 300  # not dispatched either
    with transaction() as connection:
        execute(connection, "DELETE FROM cgk.runs WHERE id = %(id)s", {"id": run})


def test_only_the_tenants_with_most_open_runs_have_a_label(database, queue, setting):
    setting(CGK_METRICS_TOP_TENANTS="1")
    for _ in range(40):
        send(queue, "initech")
    send(queue, "globex")

    found = {key[1][1]: number for key, number in read().items() if key[0] == "cgk_tenant_open_runs"}

    assert set(found) == {"initech", "other"}
    assert found["initech"] >= 40


def test_without_top_tenants_no_tenant_is_named(database, queue, setting):
    setting(CGK_METRICS_TOP_TENANTS="0")
    send(queue, "globex")
    assert {key[1][1] for key in read() if key[0] == "cgk_tenant_open_runs"} == {"other"}


def test_a_silent_worker_is_shown(database, served):
    with transaction() as connection:
        execute(
            connection, "UPDATE cgk.workers SET heartbeat_at = now() - interval '1 h' WHERE name = %(name)s",
            {"name": served},
        )  # fmt: skip
    assert read()["cgk_workers", ("state", "silent")] >= 1


def test_drained_workers_are_counted_and_their_queues_are_not_served(database, served):
    before = read()["cgk_workers_draining",]
    with transaction() as connection:
        drained = "UPDATE cgk.workers SET heartbeat_at = now(), drain_wanted_at = now() WHERE name = %(name)s"
        execute(connection, drained, {"name": served})
    assert read()["cgk_workers_draining",] == before + 1
    with transaction() as connection:
        queues = fetch(connection, statements("metrics")["served_queues"], {"timeout": 30})
    assert served not in [row["queue"] for row in queues]


def test_a_schedule_that_did_not_tick_in_time_is_shown(database):
    values = {
        "name": "test.late", "event": "order.created", "cron": "* * * * *", "timezone": "UTC", "is_enabled": True,
        "is_listed": True, "seeded_cron": "* * * * *", "seeded_timezone": "UTC", "seeded_enabled": True,
        "done_until": datetime.now(UTC) - timedelta(hours=1),
    }  # fmt: skip
    from cgk_tasks.schedules.health import SQL

    with transaction() as connection:
        note_job_events(connection, {"order.created": Route()})
        fetch(connection, SQL["save_schedule"], values)
        fetch(connection, SQL["save_schedule"], {**values, "name": "test.jobless", "event": "inventory.sync"})
    try:
        found = read()
        assert ("cgk_schedule_late_seconds", ("schedule", "test.jobless")) not in found
        assert found["cgk_schedule_late_seconds", ("schedule", "test.late")] > 120
        assert found["cgk_beat_leads",] == 0
    finally:
        with transaction() as connection:
            execute(connection, "DELETE FROM cgk.schedules WHERE name IN ('test.late', 'test.jobless')")


def test_ticks_that_were_given_up_are_shown(database):
    with transaction() as connection:
        execute(
            connection,
            "INSERT INTO cgk.schedule_ticks (schedule, scheduled_for, given_up) VALUES ('test.missed', now(), 7)",
        )
    assert read()["cgk_schedule_ticks_missed", ("schedule", "test.missed")] == 7


def test_the_open_runs_are_counted_at_most_every_few_seconds(database, queue):
    counter = open_runs.OpenRunsCounter()
    first = counter.read()
    send(queue)
    assert counter.read() is first


def test_without_postgresql_the_exporter_says_so_and_serves_on(database, setting):
    setting(CGK_DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    assert read() == {("cgk_database_up",): 0}


def test_the_command_serves_until_it_is_stopped(database):
    port = free_port()
    environment = {**os.environ, "CGK_EXPORTER": f"127.0.0.1:{port}", "PYTHONPATH": str(Path.cwd())}
    command = subprocess.Popen(
        [sys.executable, "-m", "cgk_tasks.cli", "metrics"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert command.stderr.readline() == f"http://127.0.0.1:{port}/metrics until Ctrl-C\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert "cgk_database_up 1.0" in answer.read().decode()
        command.send_signal(signal.SIGTERM)
        assert wait_exit(command) == 0
    finally:
        command.kill()
        command.stderr.close()


def test_the_settings_name_an_address_that_cannot_be(database, setting):
    setting(CGK_EXPORTER="nowhere")
    with pytest.raises(exporter.ConfigurationError, match=r"CGK_EXPORTER is 'nowhere'.*like 127\.0\.0\.1:9808"):
        exporter.address()
    assert get_settings().exporter == "nowhere"


@pytest.mark.parametrize("statement", ["totals", "ticks_missed", "served_queues"])
def test_what_is_asked_at_each_scrape_reads_no_history(statement):
    assert "run_history" not in exporter.SQL[statement]
    assert "run_history" not in open_runs.SQL["open_runs"]


def test_the_exporter_stops_counting_when_it_takes_long():
    slow = open_runs.OpenRuns([], [], seconds=10.0)
    counter = open_runs.OpenRunsCounter()
    counter._last = slow
    assert wait_until(counter.read) is slow
