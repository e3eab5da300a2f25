"""PostgreSQL is killed, stopped, frozen, or cut off from one worker."""

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from cgk_tasks import send_job, send_jobs
from cgk_tasks.broker import packets
from cgk_tasks.errors import StoreError
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit, execute, fetch
from tests.faults.journal import once, rows_written, wait_completed
from tests.support.waiting import wait_until


class Sender(threading.Thread):
    """Sends single runs and batches of five all the time, and remembers which sends were accepted."""

    def __init__(self, journal) -> None:
        super().__init__()
        self.accepted: list[str] = []
        self.refused: list[list[int]] = []
        self.unexpected: list[Exception] = []
        self._journal = journal
        self._stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._stopping.wait(0.01):
            size = 5 if number % 10 == 0 else 1
            numbers = list(range(number, number + size))
            number += size
            events = [self._journal.work(each) for each in numbers]
            try:
                handles = [send_job(events[0])] if size == 1 else send_jobs(events)
            except StoreError:
                self.refused.append(numbers)
            except Exception as error:
                self.unexpected.append(error)
            else:
                self.accepted += [handle.id for handle in handles]

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@pytest.fixture
def sender(worker, journal) -> Iterator[Sender]:
    sending = Sender(journal)
    sending.start()
    yield sending
    sending.stop()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_postgres_that_goes_away_under_load_keeps_its_word_on_every_accepted_send(postgres, journal, sender, how):
    wait_until(lambda: len(sender.accepted) > 50)
    running = journal.send(2, seconds=3, priority=9)
    journal.wait_at_work(running)
    postgres.kill(how)
    wait_until(lambda: len(sender.refused) > 5, what="sends refused")
    postgres.start()
    so_far = len(sender.accepted)
    wait_until(lambda: len(sender.accepted) > so_far + 50)
    sender.stop()
    everything = [*sender.accepted, *running]
    wait_completed(everything, 60)
    assert sender.unexpected == []
    assert rows_written(everything) == once(everything)
    assert journal.overlaps == []
    assert_refused_whole_or_not_at_all(sender.refused)


def assert_refused_whole_or_not_at_all(refused):
    """A refused send may have been committed (the answer was lost), but then all of it."""
    with autocommit() as connection:
        rows = fetch(
            connection,
            "SELECT sealed_payload FROM cgk.runs UNION ALL SELECT sealed_payload FROM cgk.run_history",
        )
    there = Counter(json.loads(row["sealed_payload"]).get("number") for row in rows)
    for numbers in refused:
        assert len({there[number] for number in numbers}) == 1, f"send {numbers} half exists: {there}"


def test_postgres_killed_amid_packets_leaves_each_run_its_writes_once(postgres, worker, journal):
    with autocommit() as connection:
        execute(
            connection,
            "INSERT INTO cgk.run_times (event, mean_seconds) VALUES ('fault.work', 0.001) "
            "ON CONFLICT (event) DO UPDATE SET mean_seconds = EXCLUDED.mean_seconds",
        )
    current_runtime().drop(packets.RUN_TIMES)
    runs = journal.send(2_000)
    wait_until(lambda: len(rows_written(runs)) > 200, what="packets under way")
    postgres.kill("SIGKILL")
    before = journal.ends(runs).total()
    postgres.start()
    wait_completed(runs, 60)
    assert 200 < before < 2_000
    assert rows_written(runs) == once(runs)
    assert journal.overlaps == []


def test_a_process_sends_again_as_soon_as_postgres_is_back(postgres, worker, journal):
    threads = [threading.Thread(target=journal.send, args=(1,)) for _ in range(5)]  # several pooled connections
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    postgres.restart()
    runs = [send_job(journal.work(number)).id for number in range(10)]
    wait_completed(runs)
    assert rows_written(runs) == once(runs)


def test_a_worker_kept_waiting_by_a_frozen_postgres_stops_its_runs_before_others_may_take_them(
    postgres, worker, journal
):
    runs = journal.send(3, seconds=4.0)
    children = journal.wait_at_work(runs, 2)
    postgres.freeze()
    try:
        wait_until(lambda: not set(journal.at_work(runs)) & set(children), 3.5, "the running jobs stopped")
    finally:
        postgres.thaw()
    wait_completed(runs, 45)
    assert rows_written(runs) == once(runs)
    assert journal.overlaps == []


class TestCutOff:
    """One of two workers reaches PostgreSQL through a proxy, which then swallows everything."""

    def test_its_runs_go_to_the_other_worker_and_none_executes_twice_at_once(self, worker, far_worker, proxy, journal):
        runs = journal.send(4, seconds=4.5, writes=False)
        journal.wait_at_work(runs, 4)
        proxy.swallow()
        wait_until(lambda: max(journal.starts(runs).values()) > 1, 20, "a run taken over")
        proxy.pass_on()
        wait_completed(runs, 45)
        assert journal.overlaps == []
        assert far_worker.container.status == "running"
