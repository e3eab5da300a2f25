"""Tenants in a crowded queue, with real workers: nobody waits behind another's flood, whatever goes wrong meanwhile."""

import os
from datetime import UTC, datetime

import pytest
import redis

from cgk_tasks import SendItem, SendOptions, get_job_status, send_job, send_jobs
from cgk_tasks.config import use_settings
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.share_jobs import Nap, OtherNap
from tests.support.waiting import wait_closed, wait_until

MODULES = ["tests.support.share_jobs"]

AHEAD = """
SELECT count(*) FROM (
    SELECT tenant_id, started_at FROM cgk.runs UNION ALL SELECT tenant_id, started_at FROM cgk.run_history) AS r,
    cgk.run_history AS late
 WHERE late.id = %s AND r.tenant_id <> late.tenant_id AND r.started_at BETWEEN late.created_at AND late.started_at
"""

COMPLETED = "SELECT tenant_id, count(*) FROM cgk.run_history WHERE state = 'completed' AND id > %s GROUP BY 1"


@pytest.fixture(scope="module", autouse=True)
def window(database):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_WINDOW_SECONDS", "0.5")
        use_settings(None)
        yield
    use_settings(None)


@pytest.fixture(scope="module", autouse=True)
def workers(window, start_worker):
    return [start_worker(MODULES, concurrency=2), start_worker(MODULES, concurrency=2)]


@pytest.fixture(autouse=True)
def queue(workers):
    """The module's, in which nothing waits at first and at last; what its runs take is known."""
    name = os.environ["CGK_DEFAULT_QUEUE"]
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.run_times (event, mean_seconds) VALUES ('shares.nap', 0.02), ('shares.other_nap', 0.02)"
            " ON CONFLICT (event) DO UPDATE SET mean_seconds = 0.02"
        )
    yield name
    with transaction() as connection:
        store.cancel_waiting(connection, [name], None, datetime.now(UTC), 100_000)
    wait_until(nothing_is_open, 60)


def nothing_is_open():
    with autocommit() as connection:
        return not connection.execute("SELECT FROM cgk.runs").fetchall()


def flood(count, tenant="acme", event=Nap, **fields):
    return [handle.id for handle in send_jobs(SendItem(event(tenant_id=tenant, **fields)) for _ in range(count))]


def ahead_of(run):
    """How many runs of other tenants were begun between this one was sent and it was begun itself."""
    assert wait_closed(run, 60).state == "completed"
    with autocommit() as connection:
        return connection.execute(AHEAD, [run]).fetchone()[0]


def completed_since(run):
    with autocommit() as connection:
        return dict(connection.execute(COMPLETED, [run]).fetchall())


def all_have_completed(runs):
    closed = [wait_closed(run, 120).state for run in runs]
    return set(closed) == {"completed"}


TWO_WINDOWS = 200
"""Two seconds of four processes, of runs that take 0.02 s."""


def test_a_lone_run_comes_among_the_next_few_while_another_tenant_floods_the_queue():
    flood(3000)
    assert ahead_of(send_job(Nap(tenant_id="globex")).id) <= TWO_WINDOWS


def test_a_lone_run_does_so_too_if_the_flood_is_sent_one_by_one():
    for _ in range(1000):
        send_job(Nap(tenant_id="acme"))
    assert ahead_of(send_job(Nap(tenant_id="globex")).id) <= TWO_WINDOWS


@pytest.mark.slow
def test_many_events_and_priorities_win_nothing():
    flood(1500)
    flood(1500, event=OtherNap)
    send_jobs(
        SendItem(Nap(tenant_id="acme"), options=SendOptions(priority=priority))
        for priority in range(10)
        for _ in range(200)
    )
    others = flood(400, tenant="globex")
    assert all_have_completed(others)
    with autocommit() as connection:
        done = connection.execute(
            "SELECT count(*) FROM cgk.run_history WHERE tenant_id = 'acme' AND closed_at <= (SELECT max(closed_at)"
            " FROM cgk.run_history WHERE tenant_id = 'globex' AND id >= %s) AND closed_at >= (SELECT min(started_at)"
            " FROM cgk.run_history WHERE tenant_id = 'globex' AND id >= %s)",
            [others[0], others[0]],
        ).fetchone()[0]
    assert done <= 400 + 2 * TWO_WINDOWS  # as many, and what the broker holds at the begin and at the end


@pytest.mark.slow
def test_a_weight_of_four_gives_four_times_as_much():
    first = send_job(Nap(tenant_id="initech")).id
    flood(3000)
    flood(3000, tenant="globex")
    with autocommit() as connection:
        connection.execute("UPDATE cgk.shares SET weight = 4 WHERE tenant_id = 'globex'")
    try:
        wait_until(lambda: sum(completed_since(first).values()) > 200, 60)
        before = completed_since(first)
        wait_until(lambda: sum(completed_since(first).values()) > sum(before.values()) + 1500, 60)
        after = completed_since(first)
    finally:
        with autocommit() as connection:
            connection.execute("UPDATE cgk.shares SET weight = 1")
    gained = {tenant: after[tenant] - before.get(tenant, 0) for tenant in ("acme", "globex")}
    assert 2.5 <= gained["globex"] / gained["acme"] <= 6


@pytest.mark.slow
def test_a_flood_whose_runs_fail_once_keeps_nobody_waiting_when_they_become_due_again():
    failing = flood(600, fails_once=True, seconds=0.01)
    wait_until(lambda: get_job_status(failing[0]).attempt >= 1, 30)
    assert ahead_of(send_job(Nap(tenant_id="globex")).id) <= TWO_WINDOWS
    assert all_have_completed(failing)


@pytest.mark.slow
def test_all_of_a_flood_is_executed_though_the_broker_loses_everything(services):
    runs = flood(800)
    for number in range(2):
        wait_until(lambda number=number: get_job_status(runs[100 * number]).is_closed, 30)
        with redis.Redis.from_url(services.broker_url) as broker:
            broker.flushdb()
    assert all_have_completed(runs)


@pytest.mark.slow
def test_all_of_a_flood_is_executed_though_leaders_are_killed(workers):
    runs = flood(800)
    for number in range(2):
        wait_until(lambda number=number: get_job_status(runs[100 * number]).is_closed, 30)
        with autocommit() as connection:
            (name,) = connection.execute(
                "SELECT w.name FROM cgk.leases l JOIN cgk.workers w ON w.id = l.holder WHERE l.name = 'dispatcher'"
            ).fetchone()
        leader = next(worker for worker in workers if worker.name == name)
        leader.kill()
        leader.restart().wait_ready()
    assert all_have_completed(runs)


@pytest.mark.slow
def test_a_flood_in_a_paused_queue_goes_on_when_it_is_resumed(queue):
    runs = flood(300)
    pause_queue(queue)
    try:
        late = send_job(Nap(tenant_id="globex")).id
    finally:
        resume_queue(queue)
    assert all_have_completed([*runs, late])


@pytest.mark.slow
def test_a_flood_of_a_suspended_tenant_goes_on_when_it_is_resumed():
    runs = flood(300)
    suspend_tenant("acme")
    try:
        assert ahead_of(send_job(Nap(tenant_id="globex")).id) <= TWO_WINDOWS
    finally:
        resume_tenant("acme")
    assert all_have_completed(runs)
