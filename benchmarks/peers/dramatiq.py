"""dramatiq on Redis: its default middleware, two processes of eight threads as its command line starts them."""

from __future__ import annotations

import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from shared import MARKS, client

from peers.peer import Peer, order, redis_client, redis_url

broker = RedisBroker(url=redis_url())
dramatiq.set_broker(broker)
marks = client()


@dramatiq.actor
def do_nothing(tenant_id: str, order_id: str, total_amount: float) -> None:
    pass


@dramatiq.actor
def mark_start(since: float) -> None:
    marks.rpush(MARKS, time.time() - since)


class Dramatiq(Peer):
    name = "dramatiq"
    packages = ("dramatiq",)
    how = "`dramatiq -p 2`, 8 threads each, default middleware"
    guarantees = (
        "In Redis only. At least once: acknowledged after the run; a killed worker's jobs come back when its heartbeat "
        "is 60 s old. Retries; dead letters for 7 days. No tenant, no history."
    )

    def mark(self, since: float) -> None:
        mark_start.send(since)

    def send(self, number: int) -> None:
        do_nothing.send(**order(number))

    def send_many(self, count: int) -> None:
        dramatiq.group(do_nothing.message(**order(number)) for number in range(count)).run()

    def commands(self) -> list[list[str]]:
        return [[sys.executable, "-m", "dramatiq", "peers.dramatiq", "--processes", "2"]]

    def left(self) -> int:
        with redis_client() as redis:
            taken = sum(redis.scard(key) for key in redis.scan_iter("dramatiq:__acks__.*"))
            return redis.llen("dramatiq:default") + taken


PEERS = [Dramatiq()]
