"""What tenants have of each queue's workers: as looks at what is running find it, and with a real worker."""

import uuid

import pytest

from cgk_tasks import SendItem, send_jobs
from cgk_tasks.admission import used_shares
from cgk_tasks.admission.used_shares import UsedShares
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit, execute
from tests.support.share_jobs import Nap
from tests.support.waiting import wait_until

WORKER = """
INSERT INTO cgk.workers (id, name, pid, queues, processes, heartbeat_at)
VALUES (%s, 'w', 1, '{q}', %s, now() - make_interval(secs => %s))
"""
RUN = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, attempt, started_at,
                      worker_id, worker_pid)
SELECT id, %s, 'slow', 'running', %s, 5, '{}', now(), 1, now(), %s, %s FROM unnest(%s::uuid[]) AS given (id)
"""
USED = "SELECT tenant_id, sum(seconds) FROM cgk.used_shares WHERE queue = %s AND tenant_id <> '' GROUP BY 1"


@pytest.fixture(autouse=True)
def empty(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.workers, cgk.used_shares, cgk.used_half_hours")


def worker(processes=2, silent=-60.0):
    made = uuid.uuid4()
    with autocommit() as connection:
        connection.execute(WORKER, [made, processes, silent])
    return made


def running(of, pid, tenant="acme", runs=1, queue="q"):
    with autocommit() as connection:
        connection.execute(RUN, [tenant, queue, of, pid, [new_run_id() for _ in range(runs)]])


def look(seconds=2.0):
    with autocommit() as connection:
        execute(connection, used_shares.SQL["note"], {"seconds": seconds, "timeout": 30.0})


def used(queue="q"):
    with autocommit() as connection:
        return {tenant: round(seconds, 6) for tenant, seconds in connection.execute(USED, [queue]).fetchall()}


def test_each_process_counts_for_the_time_since_the_last_look():
    one = worker()
    running(one, 100)
    running(one, 101, "globex")
    look(2.0)
    look(1.5)
    assert used() == {"acme": 3.5, "globex": 3.5}


def test_the_runs_of_a_packet_share_the_time_of_their_process():
    one = worker()
    running(one, 100, runs=30)
    running(one, 100, "globex", runs=10)
    running(one, 101, "globex")
    look(2.0)
    assert used() == {"acme": 1.5, "globex": 2.5}


def test_threads_are_as_many_at_once_as_their_worker_says():
    running(worker(processes=4), 1, runs=3)
    running(worker(processes=4), 1, "globex", runs=100)
    look(2.0)
    assert used() == {"acme": 6.0, "globex": 8.0}


def test_what_all_had_and_the_half_hours_are_noted_with_it():
    one = worker()
    running(one, 100)
    running(one, 101, "globex")
    look(2.0)
    look(2.0)
    with autocommit() as connection:
        (whole,) = connection.execute("SELECT sum(seconds) FROM cgk.used_shares WHERE tenant_id = ''").fetchone()
        halves = dict(
            connection.execute("SELECT tenant_id, sum(seconds) FROM cgk.used_half_hours GROUP BY 1").fetchall()
        )
    assert (whole, halves) == (8.0, {"acme": 4.0, "globex": 4.0})


def test_queues_are_counted_apart():
    one = worker()
    running(one, 100)
    running(one, 101, queue="other")
    look(2.0)
    assert (used(), used("other")) == ({"acme": 2.0}, {"acme": 2.0})


def test_what_a_silent_worker_held_is_not_counted():
    running(worker(silent=31.0), 100)
    look()
    assert used() == {}


def test_a_parent_that_waits_for_its_children_is_not_counted():
    running(None, None)
    look()
    assert used() == {}


def test_what_is_older_than_the_picture_is_forgotten():
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.used_shares VALUES ('q', 'acme', now() - interval '2 hours', 5),"
            " ('q', 'acme', now() - interval '50 minutes', 7)"
        )
    UsedShares().note_now_and_then()
    assert used() == {"acme": 7}


def test_a_look_is_taken_every_other_second():
    running(worker(), 100)
    noting = UsedShares()
    for _ in range(5):
        noting.note_now_and_then()
    assert used() == {"acme": 2.0}


def test_a_database_that_is_not_migrated_yet_harms_nobody():
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.used_shares RENAME TO used_shares_away")
    try:
        UsedShares().note_now_and_then()
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.used_shares_away RENAME TO used_shares")


def test_a_look_reads_what_is_running_and_not_the_backlog():
    one = worker()
    running(one, 100)
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at)"
            " SELECT gen_random_uuid(), 'acme', 'slow', 'pending', 'q', 5, '{}', now() FROM generate_series(1, 20000)"
        )
        connection.execute("ANALYZE cgk.runs")
        statement = used_shares.SQL["note"]
        plan = connection.execute(f"EXPLAIN {statement}", {"seconds": 2.0, "timeout": 30.0}).fetchall()
    lines = "\n".join(line for (line,) in plan)
    assert "runs_of_worker" in lines
    assert "Seq Scan on runs" not in lines


@pytest.mark.slow
def test_a_worker_that_leads_notes_whose_runs_it_executes(start_worker):
    started = start_worker(["tests.support.share_jobs"], concurrency=2)
    send_jobs([SendItem(Nap(tenant_id=tenant, seconds=6)) for tenant in ("acme", "globex")])

    def seen():
        with autocommit() as connection:
            rows = connection.execute(
                "SELECT tenant_id, sum(seconds) FROM cgk.used_shares WHERE tenant_id <> ''"
                " GROUP BY 1 HAVING sum(seconds) > 3"
            ).fetchall()
        return {tenant for tenant, _ in rows} == {"acme", "globex"}

    wait_until(seen, 30, "both tenants' seconds are noted")
    started.stop()
    with autocommit() as connection:
        most = connection.execute("SELECT max(total) FROM (SELECT sum(seconds) AS total FROM cgk.used_shares"
                                  " WHERE tenant_id <> '' GROUP BY tenant_id) AS t").fetchone()[0]  # fmt: skip
    assert most <= 6 + 4  # a look before and one after the nap at most
