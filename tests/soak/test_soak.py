"""3,000 runs under each kind of fault: nothing is lost, doubled or overlapping, and all ends soon after the last."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgk_tasks import SendItem, SendOptions, embedded, send_jobs
from cgk_tasks.errors import StoreError
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.faults.conftest import broker_name, broker_node, environment, queue, services  # noqa: F401 - fixtures
from tests.faults.journal import Journal, once, rows_written, wait_completed
from tests.faults.proxy import postgres_proxy
from tests.soak import faults
from tests.soak.faults import System
from tests.support.nodes import kill_group
from tests.support.workers import Worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUNS = 3_000
A_SEND = 25
OPEN_AT_MOST = 400
"""So many runs wait while the faults happen: enough for each fault to meet some of every kind."""


class Sender(threading.Thread):
    """Sends until there are 3,000 runs. One that fails is repeated with its keys: nobody knows whether it was made."""

    def __init__(self, journal: Journal, ended: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self.failure: Exception | None = None
        self._journal, self._ended = journal, ended
        self._pause = threading.Event()

    def run(self) -> None:
        try:
            while len(self.accepted) < RUNS:
                if len(self.accepted) - self._ended() > OPEN_AT_MOST:
                    self._pause.wait(0.05)
                else:
                    self._send(len(self.accepted))
        except Exception as error:
            self.failure = error

    def _send(self, first: int) -> None:
        items = [self._item(number) for number in range(first, first + A_SEND)]
        while True:
            try:
                self.accepted += [handle.id for handle in send_jobs(items)]
            except StoreError:
                self._pause.wait(0.2)
            else:
                return

    def _item(self, number: int) -> SendItem:
        """Every fifth runs later, every seventh takes longer."""
        delay = 1.5 if number % 5 == 0 else None
        seconds = 0.2 if number % 7 == 0 else 0.005
        key = f"{self._journal.folder.parent.name}-{number}"
        return SendItem(self._journal.work(number, seconds), options=SendOptions(delay=delay, idempotency_key=key))


@pytest.fixture
def journal(queue: str, tmp_path: Path) -> Journal:  # noqa: F811 - the fixture
    return Journal(tmp_path / "journal")


@pytest.fixture
def sender(journal: Journal) -> Sender:
    last = 0

    def ended() -> int:
        """As far as PostgreSQL can tell now."""
        nonlocal last
        try:
            with autocommit() as connection:
                statement = "SELECT count(*) AS runs FROM cgk.run_history WHERE event = 'fault.work'"
                last = fetch(connection, statement)[0]["runs"]
        except Exception:
            return last
        return last

    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.run_history, cgk.workers, cgk.leases")
    sending = Sender(journal, ended)
    sending.start()
    return sending


@pytest.fixture
def system(services: embedded.Services, queue: str, sender: Sender) -> Iterator[System]:  # noqa: F811 - the fixtures
    started: list[Worker] = []

    def start_worker(number: int) -> Worker:
        far = {"CGK_DATABASE_URL": proxy.url} if number == 1 else {}
        started.append(Worker(["tests.faults.jobs"], **far).wait_ready(60))
        return started[-1]

    with postgres_proxy(services.database_url) as proxy:
        workers = [start_worker(0), start_worker(1)]
        yield System(services, workers, proxy, queue, start_worker, sender._ended)
        for worker in started:
            kill_group(worker.pid)
            worker.process.wait()


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (faults.a_child_is_killed, 12),
        (faults.a_worker_is_killed, 3),
        (faults.a_main_process_is_stopped, 2),
        (faults.redis_is_killed_and_flushed, 8),
        (faults.postgres_crashes, 3),
        (faults.all_connections_are_ended, 8),
        (faults.a_worker_is_cut_off_from_postgres, 2),
        (faults.junk_arrives, 8),
        (faults.a_deploy, 2),
    ],
    ids=lambda value: value.__name__.replace("_", " ") if callable(value) else str(value),
)
def test_no_run_is_lost_doubled_or_overlapping_when(fault, times, system: System, sender: Sender, journal: Journal):
    system.wait_progress()
    for _ in range(times):
        fault(system)
    sender.join(300)
    assert sender.failure is None
    assert len(sender.accepted) == RUNS
    wait_completed(sender.accepted, 60)
    assert made() == RUNS
    assert rows_written(sender.accepted) == once(sender.accepted)
    assert journal.overlaps == []


def made() -> int:
    statement = """
        SELECT count(*) AS runs FROM (
            SELECT FROM cgk.runs WHERE event = 'fault.work'
            UNION ALL SELECT FROM cgk.run_history WHERE event = 'fault.work'
        ) AS run
    """
    with autocommit() as connection:
        return fetch(connection, statement)[0]["runs"]
