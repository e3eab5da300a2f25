"""PostgreSQL's primary dies, and its standby takes over: processes find it by a URL with both hosts."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from cgk_tasks import reset_job_client, send_job
from cgk_tasks.config import use_settings
from cgk_tasks.embedded import account as accounts
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch
from cgk_tasks.tenancy import registry
from tests.faults.conftest import MODULES
from tests.faults.journal import once, rows_written, states, wait_completed
from tests.schedules.beats import BeatProcess
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, running_worker


class Standby:
    """A copy of a private PostgreSQL that follows it, until it is promoted."""

    def __init__(self, primary, folder: Path) -> None:
        self._account = accounts.Account.choose(folder)
        self._options = self._account.options if self._account else {}
        self._bin = accounts.postgres_binaries(self._account)
        self._data, self.socket_folder = folder / "data", folder / "socket"
        for made in (folder, self.socket_folder):
            accounts.own_folder(made, self._account)
        copy = ["--dbname", primary.url, "--pgdata", self._data, "--write-recovery-conf", "--checkpoint", "fast"]
        subprocess.run(
            [self._bin / "pg_basebackup", *copy, "--no-sync"], check=True, capture_output=True, cwd="/", **self._options
        )
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, "-p", "5432", "-c", "listen_addresses=", "-c",
             f"unix_socket_directories={self.socket_folder}", "-c", "max_connections=200"],
            cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._options,
        )  # fmt: skip

    def promote(self) -> None:
        subprocess.run(
            [self._bin / "pg_ctl", "promote", "-D", self._data],
            check=True,
            capture_output=True,
            cwd="/",
            **self._options,
        )

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(30)


@pytest.fixture
def standby(services, environment):
    """One that every commit of the primary waits for."""
    folder = Path(tempfile.mkdtemp(prefix="cgk-standby-"))
    running = Standby(services.postgres, folder)

    def follows() -> bool:
        with psycopg.connect(services.database_url) as connection:
            return connection.execute(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            ).fetchone() == (1,)

    wait_until(follows, 30, "the standby follows")
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
def both_hosts(services, standby, monkeypatch):
    """A URL with both, of which the one that takes writes is used; this process has it from now on."""
    first = psycopg.conninfo.conninfo_to_dict(services.database_url)["host"]
    hosts = f"host={first},{standby.socket_folder}&port=5432,5432"
    monkeypatch.setenv("CGK_DATABASE_URL", f"postgresql://cgk@/cgk?{hosts}&target_session_attrs=read-write")
    _forget()
    yield os.environ["CGK_DATABASE_URL"]
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    use_settings(None)
    reset_job_client()
    registry.forget_known()
    close_pools()


def lease_of_beat():
    """Until when a beat leads; None if none does."""
    with autocommit() as connection:
        rows = fetch(connection, "SELECT expires_at FROM cgk.leases WHERE name = 'beat' AND expires_at > now()")
    return rows[0]["expires_at"] if rows else None


@pytest.fixture
def beat(both_hosts):
    subprocess.run([sys.executable, "-m", "cgk_tasks.cli", "migrate"], cwd=ROOT, check=True, capture_output=True)
    process = BeatProcess()
    wait_until(lease_of_beat, 30, "the beat leads")
    yield process
    process.stop()


def test_what_was_accepted_runs_once_each_on_the_promoted_standby_and_nothing_is_restarted(
    services, standby, beat, journal
):
    with running_worker(MODULES) as worker:
        runs = journal.send(100, seconds=0.05) + journal.send(5, delay=1.0)
        wait_until(lambda: states(runs)["completed"] > 20, 20, "the worker is at it")
        lease = lease_of_beat()
        services.postgres.kill()
        standby.promote()
        wait_completed(runs, 60)
        later = [send_job(journal.work(number)).id for number in range(3)]
        wait_completed(later)
        assert worker.process.poll() is None
    assert rows_written([*runs, *later]) == once([*runs, *later])
    assert journal.overlaps == []
    wait_until(lambda: (lease_of_beat() or lease) > lease, 30, "the beat leads on")
    assert beat.process.poll() is None
