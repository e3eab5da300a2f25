"""Plain Celery on Redis with its defaults."""

from __future__ import annotations

from harness import PLAIN, celery_worker
from plain_app import app
from sends import mark_plain
from shared import PLAIN_QUEUE

from peers.peer import Peer, order, redis_client


class PlainCelery(Peer):
    name = "plain Celery"
    packages = ("celery", "kombu")
    how = "`celery worker -c 2`, prefork, no results"
    guarantees = (
        "In Redis only. At most once: a killed process loses the job it runs; "
        "jobs that its worker had fetched come back "
        "after the visibility timeout of 1 h. No tenant, no history."
    )
    share = 0.3

    def mark(self, since: float) -> None:
        mark_plain(since)

    def send(self, number: int) -> None:
        app.tasks["do_nothing"].apply_async(kwargs=order(number))

    def send_many(self, count: int) -> None:
        for number in range(count):
            self.send(number)

    def commands(self) -> list[list[str]]:
        return [celery_worker(*PLAIN)]

    def left(self) -> int:
        with redis_client() as broker:
            return broker.llen(PLAIN_QUEUE) + broker.hlen("unacked")


PEERS = [PlainCelery()]
