"""Processes behind PgBouncer in transaction mode, which gives each transaction another session of PostgreSQL."""

import os
import subprocess
import sys
import threading
from collections import Counter

import psycopg
import pytest

from cgk_tasks.client import create_job_client
from cgk_tasks.config import Settings
from tests.faults.journal import once, rows_written, wait_completed
from tests.schedules.beats import BeatProcess
from tests.support.pgbouncer import running_pgbouncer
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, list_workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(environment, services):
    with running_pgbouncer(services.database_url) as url:
        yield url


@pytest.fixture
def worker_environment(url):
    return {"CGK_DATABASE_URL": url, "CGK_PREPARE_THRESHOLD": "0"}


def test_a_worker_leads_runs_each_run_once_in_its_tenant_and_leaves_in_order(worker, journal):
    runs = journal.send(200)
    late = journal.send(20, delay=0.5)
    wait_completed([*runs, *late], 60)
    assert rows_written([*runs, *late]) == once([*runs, *late])
    assert journal.overlaps == []
    worker.kill("SIGTERM")
    wait_until(lambda: worker.worker.process.poll() is not None, 15, "the worker has ended")
    assert worker.worker.process.returncode == 0
    assert list_workers() == []
    assert '"level": "error"' not in worker.logs()


def test_keyed_sends_under_serializable_isolation_are_all_accepted_once(worker, url, queue, services, journal):
    """Our own isolation travels with the login, which PgBouncer does not pass on."""
    with psycopg.connect(services.database_url, autocommit=True) as administrator:
        administrator.execute("ALTER DATABASE cgk SET default_transaction_isolation = 'serializable'")
        try:
            with running_pgbouncer(services.database_url) as fresh:
                handles = send_at_once(fresh, services, queue, journal)
        finally:
            administrator.execute("ALTER DATABASE cgk RESET default_transaction_isolation")
    ids = {handle.id for handle in handles}
    assert (len(handles), len(ids)) == (8 * 20, 4 * 20)
    assert Counter(handle.deduplicated for handle in handles) == {True: 4 * 20, False: 4 * 20}
    wait_completed(list(ids), 60)


def send_at_once(url, services, queue, journal):
    """Eight threads send; two of them have the same keys each time."""
    client = create_job_client(
        "celery",
        settings=Settings(
            database_url=url, broker_url=services.broker_url, prepare_threshold=0, default_queue=queue,
            jobs_provider="celery",
        ),
    )  # fmt: skip
    handles, wrong, start = [], [], threading.Barrier(8)

    def send(thread):
        start.wait()
        for number in range(20):
            try:
                key = f"{os.getpid()}-{thread // 2}-{number}"
                handles.append(client.send(journal.work(thread // 2), idempotency_key=key))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert wrong == []
    return handles


def migrate(url):
    return subprocess.run(
        [sys.executable, "-m", "cgk_tasks.cli", "migrate"],
        env={**os.environ, "CGK_DATABASE_URL": url, "CGK_PREPARE_THRESHOLD": "0", "PYTHONPATH": str(ROOT)},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_migrate_says_that_it_needs_postgresql_itself(url):
    ended = migrate(url)
    assert (ended.returncode, "cannot work through PgBouncer" in ended.stderr) == (1, True)


def test_migrate_finds_out_when_pgbouncer_drops_the_search_path_silently(environment, services):
    with running_pgbouncer(services.database_url, ignore_startup_parameters="options") as url:
        ended = migrate(url)
    assert (ended.returncode, "cannot work through PgBouncer" in ended.stderr) == (1, True)


def test_beat_says_that_it_needs_postgresql_itself(url):
    beat = BeatProcess(CGK_DATABASE_URL=url, CGK_PREPARE_THRESHOLD="0")
    try:
        wait_until(lambda: "cannot work through PgBouncer" in beat.log, what="a line")
    finally:
        beat.stop()
