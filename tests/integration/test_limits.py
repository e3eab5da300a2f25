"""Limits of jobs, with real workers: never exceeded, in order, and nothing is lost by whoever is killed."""

import os
import time
import uuid
from collections import Counter

import pytest

from cgk_tasks import SendItem, cancel_job, get_job_status, send_job, send_jobs, signal_run
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.limits_jobs import Paced, Single, Steps, Two, Walk, Work
from tests.support.waiting import wait_closed, wait_state, wait_until

MODULES = ["tests.support.limits_jobs"]


@pytest.fixture(scope="module", autouse=True)
def workers(start_worker):
    return [start_worker(MODULES, concurrency=3), start_worker(MODULES, concurrency=3)]


@pytest.fixture
def blocked(tmp_path):
    """A run of acme that has the one place until `go` is there."""
    run = send_job(Single(tenant_id="acme", path=str(tmp_path), action="wait")).id
    wait_until(
        lambda: list(tmp_path.glob(f"*.{run}")), what="its job is on"
    )  # it is claimed before it is admitted, too
    return run


def send(tmp_path, event=Single, tenant="acme", **fields):
    return send_job(event(tenant_id=tenant, path=str(tmp_path), **fields)).id


def results(runs):
    closed = [wait_closed(run, 60) for run in runs]
    assert {status.state for status in closed} == {"completed"}
    return [status.result for status in closed]


def lanes_are_empty():
    with autocommit() as connection:
        return not connection.execute("SELECT FROM cgk.lanes WHERE status <> 'empty'").fetchall()


def test_every_limit_of_a_job_is_kept_and_all_runs_get_through(tmp_path):
    runs = [
        send(tmp_path, Work, tenant, shop_id=f"s{n % 3}", seconds=0.05)
        for n in range(8)
        for tenant in ("acme", "globex", "initech")
    ]
    for on in results(runs):
        tenants = Counter(name.partition(".")[0] for name in on)
        assert (len(on) <= 3, max(tenants.values()) <= 2, max(Counter(on).values()) <= 1) == (True, True, True)
    assert {get_job_status(run).attempt for run in runs} == {1}
    wait_until(lanes_are_empty)


@pytest.mark.slow
def test_runs_sent_in_bulk_keep_the_limit_too(tmp_path):
    items = [SendItem(Single(tenant_id="acme", path=str(tmp_path), seconds=0.0)) for _ in range(100)]
    runs = [handle.id for handle in send_jobs(items)]
    assert {len(on) for on in results(runs)} == {1}


def test_who_waits_for_a_place_is_held_and_comes_in_order(blocked, tmp_path):
    waiting = []
    for _ in range(3):
        waiting.append(send(tmp_path))
        wait_state(waiting[-1], "held")
    (tmp_path / "go").touch()
    results([blocked, *waiting])
    assert (tmp_path / "order").read_text().split() == [blocked, *waiting]


def test_a_full_limit_of_one_tenant_keeps_no_other_one(blocked, tmp_path):
    held = send(tmp_path)
    wait_state(held, "held")
    assert wait_closed(send(tmp_path, tenant="globex")).state == "completed"
    assert get_job_status(held).state == "held"
    (tmp_path / "go").touch()
    results([blocked, held])


def test_a_run_that_is_held_can_be_cancelled(blocked, tmp_path):
    held, after = send(tmp_path), send(tmp_path)
    wait_state(held, "held")
    assert cancel_job(held).state == "cancelled"
    (tmp_path / "go").touch()
    results([blocked, after])


def test_a_run_that_fails_waits_for_a_place_again(tmp_path):
    runs = [send(tmp_path, action="fail once", seconds=0.05) for _ in range(4)]
    assert {len(on) for on in results(runs)} == {1}
    assert {get_job_status(run).attempt for run in runs} == {2}


def test_the_limit_of_one_of_several_jobs_is_kept_for_its_child_runs(tmp_path):
    runs = [send(tmp_path, Two, seconds=0.05) for _ in range(5)]
    assert {len(result["limits-two-one"]) for result in results(runs)} == {1}


def test_a_throttle_starts_no_more_than_its_rate_and_its_burst(tmp_path):
    begun = time.time()
    starts = sorted(results([send_job(Paced(tenant_id="acme")).id for _ in range(20)]))
    for count, start in enumerate(starts, 1):
        assert count <= 3 + 10 * (start - begun)


def test_a_workflow_that_waits_takes_no_place_and_one_that_is_on_does(tmp_path):
    runs = [send(tmp_path, Walk, seconds=0.05) for _ in range(4)]
    for run in runs:
        wait_state(run, "scheduled")
    for run in runs:
        signal_run(run, "go")
    assert {len(on) for on in results(runs)} == {1}


def test_each_time_that_a_workflow_goes_on_is_a_start_for_a_throttle():
    begun = time.time()
    legs = sorted(leg for on in results([send_job(Steps(tenant_id="acme")).id for _ in range(5)]) for leg in on)
    for count, leg in enumerate(legs, 1):
        assert count <= 3 + 10 * (leg - begun)


def test_limited_runs_of_a_paused_queue_go_on_when_it_is_resumed(tmp_path):
    queue = os.environ["CGK_DEFAULT_QUEUE"]
    pause_queue(queue)
    runs = [send(tmp_path) for _ in range(3)]
    for run in runs:
        wait_state(run, "held")
    resume_queue(queue)
    assert {len(on) for on in results(runs)} == {1}


def test_limited_runs_of_a_suspended_tenant_go_on_when_it_is_resumed(blocked, tmp_path):
    waiting = send(tmp_path)
    wait_state(waiting, "held")
    suspend_tenant("acme")
    try:
        (tmp_path / "go").touch()
        wait_closed(blocked)
        other = send(tmp_path, tenant="globex")
        assert wait_closed(other).state == "completed"
        assert get_job_status(waiting).state == "held"
    finally:
        resume_tenant("acme")
    results([waiting])


@pytest.fixture
def worker_of_an_earlier_release():
    """Adds one to those on record, as long as the test lasts."""
    worker_id = str(uuid.uuid4())

    def add():
        with transaction() as connection:
            connection.execute(
                "INSERT INTO cgk.workers (id, name, pid, queues, heartbeat_at)"
                " VALUES (%s, 'older', 1, '{}', now() + interval '1 hour')",
                [worker_id],
            )
            connection.execute("INSERT INTO cgk.presence VALUES (%s)", [worker_id])

    yield add
    with transaction() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE id = %s", [worker_id])
        connection.execute("DELETE FROM cgk.presence WHERE worker_id = %s", [worker_id])
    until = time.monotonic() + 2.5  # a process trusts for two seconds what it knows of the others
    wait_until(lambda: time.monotonic() > until)


def test_held_runs_are_left_to_redis_while_a_worker_of_an_earlier_release_lives(
    blocked, tmp_path, worker_of_an_earlier_release
):
    held = send(tmp_path)
    wait_state(held, "held")
    worker_of_an_earlier_release()
    assert wait_closed(held).state == "completed"  # a limit that Redis does not know is not kept
    (tmp_path / "go").touch()
    results([blocked])


@pytest.mark.slow
def test_a_child_that_dies_with_a_slot_of_many_runs_loses_none_and_frees_the_place(tmp_path):
    items = [SendItem(Single(tenant_id="acme", path=str(tmp_path), seconds=0.0, action="die once")) for _ in range(100)]
    runs = [handle.id for handle in send_jobs(items)]
    assert {len(on) for on in results(runs)} == {1}


@pytest.mark.slow
def test_a_worker_that_is_killed_with_a_slot_frees_the_place(start_worker, tmp_path):
    extra = start_worker(MODULES, concurrency=1)
    runs = [send(tmp_path, seconds=0.2) for _ in range(15)]
    wait_until(lambda: any(get_job_status(run).state == "running" for run in runs))
    extra.kill()
    assert {len(on) for on in results(runs)} == {1}


@pytest.mark.slow
def test_a_leader_that_is_killed_again_and_again_loses_nothing(workers, tmp_path):
    runs = [send(tmp_path, tenant=tenant, seconds=0.05) for _ in range(20) for tenant in ("acme", "globex")]
    for _ in range(2):
        closed = sum(get_job_status(run).is_closed for run in runs)
        wait_until(lambda closed=closed: sum(get_job_status(run).is_closed for run in runs) > closed + 2)
        with autocommit() as connection:
            (name,) = connection.execute(
                "SELECT w.name FROM cgk.leases l JOIN cgk.workers w ON w.id = l.holder WHERE l.name = 'dispatcher'"
            ).fetchone()
        leader = next(worker for worker in workers if worker.name == name)
        leader.kill()
        leader.restart().wait_ready()
    assert {sum(on_name.startswith("acme") for on_name in on) <= 1 for on in results(runs)} == {True}
