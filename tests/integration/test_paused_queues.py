"""A paused queue holds its runs, whoever sent them and whoever would claim them, until it is resumed."""

import json
import os
import uuid

import pytest

from cgk_tasks import SendItem, cancel_job, get_job_status, send_job, send_jobs
from cgk_tasks.broker import packets
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.queues import list_queues, pause_queue, paused_queues, resume_queue
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_state, wait_until
from tests.support.workers import running_worker

OTHER = "q-not-paused"


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.jobs"], concurrency=2)


@pytest.fixture
def queue(worker):
    """This module's queue, paused."""
    name = os.environ["CGK_DEFAULT_QUEUE"]
    pause_queue(name, by="ops", reason="the mail server is down")
    yield name
    resume_queue(name)


def do(action, argument="", tenant="acme", **options):
    return send_job(Behave(tenant_id=tenant, action=action, argument=argument), **options).id


def found(name):
    return next((queue for queue in list_queues() if queue.queue == name), None)


def test_a_run_is_accepted_held_and_goes_on_when_the_queue_is_resumed(queue):
    run = do("echo", "late")
    held = wait_state(run, "held")
    resume_queue(queue)
    assert (held.attempt, wait_closed(run).result, get_job_status(run).attempt) == (0, "late", 1)


def test_every_run_of_a_packet_is_held_and_goes_on(queue, monkeypatch):
    monkeypatch.setattr(packets, "packet_length", lambda _event, waiting: waiting)
    runs = [
        handle.id
        for handle in send_jobs(SendItem(Behave(tenant_id="acme", action="echo", argument=str(n))) for n in range(30))
    ]
    for run in runs:
        wait_state(run, "held")
    resume_queue(queue)
    assert [wait_closed(run).result for run in runs] == [str(n) for n in range(30)]


def test_a_claim_takes_of_a_packet_what_is_in_no_paused_queue(queue):
    pause_queue("q-paused-too")
    try:
        runs = [do("echo", queue=name) for name in ("q-nobody-1", "q-paused-too", "q-nobody-2")]
        claimed = store.claim(runs, str(uuid.uuid4()), os.getpid())
        states = [get_job_status(run).state for run in runs]
    finally:
        resume_queue("q-paused-too")
        with autocommit() as connection:
            connection.execute("DELETE FROM cgk.runs WHERE id = ANY(%s::uuid[])", [runs])
    assert [run.id for run in claimed] == [runs[0], runs[2]]
    assert states == ["running", "held", "running"]


def test_a_run_that_runs_goes_on(worker, tmp_path):
    name, path = os.environ["CGK_DEFAULT_QUEUE"], tmp_path / "go"
    run = do("wait_for_file", str(path))
    wait_until(path.with_suffix(".started").exists)
    pause_queue(name)
    try:
        path.touch()
        assert wait_closed(run).state == "completed"
    finally:
        resume_queue(name)


def test_a_delayed_run_is_held_when_it_is_due(queue):
    run = do("echo", "later", delay=0.3)
    assert wait_state(run, "held").attempt == 0
    resume_queue(queue)
    assert wait_closed(run).result == "later"


def test_a_run_of_a_suspended_tenant_waits_for_both(queue):
    suspend_tenant("initech", by="billing")
    try:
        run = do("echo", "both", tenant="initech")
        assert [gate.code for gate in why(run).gates] == ["tenant_suspended", "queue_paused"]
        resume_queue(queue)
        assert [gate.code for gate in why(run).gates] == ["tenant_suspended"]
        pause_queue(queue)
    finally:
        resume_tenant("initech")
    with autocommit() as connection:
        connection.execute(statements("transitions")["release_held"])
    assert get_job_status(run).state == "held"
    resume_queue(queue)
    assert wait_closed(run).result == "both"


def test_a_run_whose_tenant_is_gone_is_not_held_for_ever(queue):
    run = do("echo")
    wait_state(run, "held")
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET tenant_id = 'umbrella' WHERE id = %s", [run])
    resume_queue(queue)
    assert wait_closed(run).error_code == "INVALID_TENANT_ID"


def test_other_queues_go_on(queue, start_worker):
    start_worker(["tests.support.jobs"], concurrency=1, CGK_DEFAULT_QUEUE=OTHER)
    assert wait_closed(do("echo", "here", queue=OTHER)).result == "here"


def test_a_pause_counts_for_a_worker_that_starts_later(queue):
    with running_worker(["tests.support.jobs"]):
        runs = [do("echo", "x") for _ in range(4)]
        for run in runs:
            assert wait_state(run, "held").attempt == 0
    for run in runs:
        cancel_job(run)


def test_workers_do_not_complain_of_a_paused_queue(queue, worker):
    before = len(worker.log)
    run = do("echo", "quiet")
    wait_state(run, "held")
    cancel_job(run)
    said = [json.loads(line) for line in worker.log[before:].splitlines() if line.startswith("{")]
    assert [line for line in said if line.get("level") in {"warning", "error"}] == []


def test_a_queue_says_what_waits_in_it_who_listens_and_who_paused_it(queue):
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE queue = %s", [queue])
    runs = [do("echo", "x") for _ in range(2)]
    for run in runs:
        wait_state(run, "held")
    later = do("echo", "x", delay=3600)
    one = found(queue)
    assert (one.waiting, one.running, one.held, one.later, one.workers) == (0, 0, 2, 1, 1)
    assert (one.is_paused, one.paused_by, one.reason) == (True, "ops", "the mail server is down")
    assert 0 <= one.oldest_seconds < 60
    for run in [*runs, later]:
        cancel_job(run)


def test_a_queue_that_is_paused_already_stays_as_it_is(queue):
    again = pause_queue(queue, by="somebody else", reason="me too")
    assert (again.paused_by, again.reason) == ("ops", "the mail server is down")
    assert again in paused_queues()


def test_resuming_says_whether_the_queue_was_paused(queue):
    assert [resume_queue(queue), resume_queue(queue)] == [True, False]
    assert not found(queue).is_paused


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines"])
def test_what_is_no_name_of_a_queue_is_refused(database, name):
    with pytest.raises(InvalidOptionError, match="1 to 200 printable characters"):
        pause_queue(name)


def read_for_release(tenant, name, lane=None):
    """How many of 5000 held runs a look has left held, and how many pages it has read."""
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.runs"
            " (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, rank, lane_id)"
            " SELECT gen_random_uuid(), %s, 'test.behave', 'held', %s, 5, '{}', now(), now(), %s"
            "  FROM generate_series(1, 5000)",
            [tenant, name, lane],
        )
        connection.execute("VACUUM ANALYZE cgk.runs")
        look = statements("transitions")["release_unlaned"]
        plan = fetch(connection, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {look}")[0]["QUERY PLAN"][0]["Plan"]
        held = connection.execute("DELETE FROM cgk.runs WHERE queue = %s AND state = 'held'", [name]).rowcount
    return held, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize(("tenant", "where"), [("acme", "the paused queue"), ("globex", "another")])
def test_a_look_for_runs_to_release_does_not_read_those_that_stay_held(queue, tenant, where):
    """Of a paused queue, and of a suspended tenant in another one. Else the dispatcher would read them all every
    second.
    """
    suspend_tenant("globex")
    try:
        held, pages = read_for_release(tenant, queue if where == "the paused queue" else OTHER)
    finally:
        resume_tenant("globex")
    assert held == 5000
    assert pages < 100


def test_a_look_for_runs_to_release_does_not_read_those_that_a_limit_holds(worker):
    held, pages = read_for_release("initech", OTHER, lane=1_000_000)
    assert held == 5000
    assert pages < 100
