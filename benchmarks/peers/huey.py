"""huey on Redis: a consumer with two worker processes."""

from __future__ import annotations

import sys
import time

from huey import RedisHuey
from shared import MARKS, client

from peers.peer import Peer, order, redis_url

huey = RedisHuey("bench", url=redis_url())
marks = client()


@huey.task()
def do_nothing(tenant_id: str, order_id: str, total_amount: float) -> None:
    pass


@huey.task()
def mark_start(since: float) -> None:
    marks.rpush(MARKS, time.time() - since)


class Huey(Peer):
    name = "huey"
    packages = ("huey",)
    how = "`huey_consumer -k process -w 2`"
    guarantees = (
        "In Redis only. At most once: a job leaves Redis before it runs, a kill loses it. No tenant, no history."
    )

    def mark(self, since: float) -> None:
        mark_start(since)

    def send(self, number: int) -> None:
        do_nothing(**order(number))

    def send_many(self, count: int) -> None:
        for number in range(count):
            huey.enqueue(do_nothing.s(**order(number)))

    def commands(self) -> list[list[str]]:
        program = [sys.executable, "-m", "huey.bin.huey_consumer", "peers.huey.huey"]
        return [[*program, "-k", "process", "-w", "2", "--quiet"]]

    def left(self) -> int:
        return huey.pending_count()


PEERS = [Huey()]
