"""Each event is in one run, and each run is executed, if PostgreSQL or a worker is killed while they are collected."""

import json
import threading
from collections.abc import Iterator

import pytest

from cgk_tasks import send_job
from cgk_tasks.errors import StoreError
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.faults.jobs import Collected
from tests.support.waiting import wait_until


class Sender(threading.Thread):
    """Sends one event after the other, each until it is accepted, with a key by which a repeat is known."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.accepted: list[int] = []
        self.refusals = 0
        self.unexpected: list[Exception] = []
        self._number = first
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(0.005):
            event = Collected(tenant_id="acme", number=self._number, seconds=0.05)
            try:
                send_job(event, idempotency_key=f"collected-{self._number}")
            except StoreError:
                self.refusals += 1
            except Exception as error:
                self.unexpected.append(error)
                return
            else:
                self.accepted.append(self._number)
                self._number += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@pytest.fixture
def senders(worker) -> Iterator[list[Sender]]:
    sending = [Sender(first) for first in (0, 100_000, 200_000)]
    for sender in sending:
        sender.start()
    yield sending
    for sender in sending:
        sender.stop()


def executed() -> list[int]:
    """The numbers of the events of all runs, once all of these are closed."""

    def are_closed() -> bool:
        return all(row["state"] == "completed" for row in store.counts(event="fault.collected"))

    wait_until(are_closed, 60, "all runs are completed")
    with autocommit() as connection:
        rows = fetch(connection, "SELECT sealed_result FROM cgk.run_history WHERE event = 'fault.collected'")
        connection.execute("TRUNCATE cgk.run_history, cgk.idempotency_keys")
    return sorted(number for row in rows for number in json.loads(row["sealed_result"]))


def sent(senders: list[Sender], more: int) -> int:
    """How many were accepted, once there are so many more."""
    so_far = sum(len(sender.accepted) for sender in senders)
    wait_until(lambda: sum(len(sender.accepted) for sender in senders) >= so_far + more, 60, "events are sent")
    return so_far


def test_postgres_killed_twice_loses_and_doubles_no_event(postgres, senders):
    for _ in range(2):
        sent(senders, 60)
        refused = sum(sender.refusals for sender in senders)
        postgres.kill("SIGKILL")
        wait_until(lambda refused=refused: sum(sender.refusals for sender in senders) > refused + 2, 60, "refusals")
        postgres.start()
    sent(senders, 60)
    for sender in senders:
        sender.stop()
    assert [sender.unexpected for sender in senders] == [[], [], []]
    accepted = sorted(number for sender in senders for number in sender.accepted)
    assert executed() == accepted


def test_children_of_a_worker_killed_again_and_again_lose_no_event(senders, worker):
    for _ in range(2):
        sent(senders, 60)
        for child in worker.children():
            child.kill()
    for sender in senders:
        sender.stop()
    assert executed() == sorted(number for sender in senders for number in sender.accepted)
