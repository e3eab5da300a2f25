"""PostgreSQL is lost, and what a back-up has goes on in a new one: pg_dump and pg_restore, as the how-to has them."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cgk_tasks import embedded, get_job_status, reset_job_client
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.config import use_settings
from cgk_tasks.embedded.account import postgres_binaries
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.sql.postgres import close_pools
from cgk_tasks.tenancy import registry
from tests.faults.conftest import MODULES
from tests.faults.journal import once, rows_written, states, wait_completed
from tests.support.workers import ROOT, running_worker

BIN = postgres_binaries(None)


def run(program: str, *arguments: str, **options) -> None:
    subprocess.run([str(BIN / program), *arguments], check=True, capture_output=True, **options)


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="cgk-backup-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def new_servers():
    """A PostgreSQL in which nothing is."""
    with embedded.temporary() as running:
        yield running


@pytest.fixture
def go_on_with(monkeypatch):
    def use(servers) -> None:
        monkeypatch.setenv("CGK_DATABASE_URL", servers.database_url)
        _forget()

    yield use
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    use_settings(None)
    reset_job_client()
    registry.forget_known()
    close_pools()
    close_publishers()


def test_what_was_open_when_the_back_up_was_made_runs_in_a_new_database(
    services, new_servers, go_on_with, journal, folder
):
    with running_worker(MODULES) as worker:
        done = journal.send(10)
        wait_completed(done)
        running = journal.send(2, seconds=2.0, priority=9)  # the whole pool
        journal.wait_at_work(running, 2)
        waiting = journal.send(20)
        delayed = journal.send(5, delay=3.0)

        run("pg_dumpall", "--roles-only", "--file", str(folder / "roles.sql"), "--dbname", services.database_url)
        run("pg_dump", "--format=custom", "--file", str(folder / "database.dump"), services.database_url)

        at_backup = states([*running, *waiting, *delayed])
        wait_completed([*running, *waiting])  # they end after the back-up, so they run once more
        worker.kill()
    later = journal.send(3)  # whose messages are in the broker still

    # Roles belong to the server, not to the database. The one of the login is there already.
    subprocess.run(
        [BIN / "psql", "--quiet", "--file", folder / "roles.sql", new_servers.database_url],
        check=False, capture_output=True,
    )  # fmt: skip
    run("pg_restore", "--exit-on-error", "--dbname", new_servers.database_url, str(folder / "database.dump"))
    go_on_with(new_servers)

    assert states(done) == {"completed": 10}
    for run_id in later:
        with pytest.raises(UnknownRunError):
            get_job_status(run_id)
    with running_worker(MODULES):
        everything = [*running, *waiting, *delayed]
        wait_completed(everything, 60)
        doctor = subprocess.run(
            [sys.executable, "-m", "cgk_tasks.cli", "doctor"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert at_backup["running"] == 2
    assert rows_written(everything) == once(everything)
    assert rows_written(done) == once(done)
