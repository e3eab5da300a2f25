"""taskiq on Redis: the stream broker of its documentation, which acknowledges, and the list broker, which does not."""

from __future__ import annotations

import asyncio
import sys
import time

from shared import MARKS, client
from taskiq.abc.broker import AsyncBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from peers.peer import Peer, order, redis_client, redis_url

streams = RedisStreamBroker(redis_url(), queue_name="taskiq-stream")
lists = ListQueueBroker(redis_url(), queue_name="taskiq-list")
marks = client()


async def do_nothing(tenant_id: str, order_id: str, total_amount: float) -> None:
    pass


async def mark_start(since: float) -> None:
    marks.rpush(MARKS, time.time() - since)


for broker in (streams, lists):
    broker.register_task(do_nothing, "do_nothing")
    broker.register_task(mark_start, "mark_start")


class Taskiq(Peer):
    packages = ("taskiq", "taskiq-redis", "uvloop")

    def __init__(self, name: str, variable: str, broker: AsyncBroker, key: str, guarantees: str) -> None:
        self.name = f"taskiq, {name}"
        self.how = f"`taskiq worker -w 2`, {name} broker, uvloop"
        self.guarantees = guarantees
        self._variable, self._broker, self._key = variable, broker, key
        self._runner = asyncio.Runner()

    def _task(self, name: str):
        return self._broker.find_task(name)

    def clear(self) -> None:
        self._runner.run(self._broker.startup())

    def mark(self, since: float) -> None:
        self._runner.run(self._task("mark_start").kiq(since))

    def send(self, number: int) -> None:
        self._runner.run(self._task("do_nothing").kiq(**order(number)))

    def send_many(self, count: int) -> None:
        task = self._task("do_nothing")

        async def send_all() -> None:
            for number in range(count):
                await task.kiq(**order(number))

        self._runner.run(send_all())

    def time_sends(self, count: int) -> list[float]:
        task = self._task("do_nothing")

        async def timed() -> list[float]:
            times = []
            for number in range(count):
                begun = time.perf_counter()
                await task.kiq(**order(number))
                times.append(time.perf_counter() - begun)
            return times

        return self._runner.run(timed())

    def commands(self) -> list[list[str]]:
        worker = [sys.executable, "-m", "taskiq", "worker", f"peers.taskiq:{self._variable}"]
        return [[*worker, "--workers", "2", "--log-level", "WARNING"]]

    def left(self) -> int:
        with redis_client() as redis:
            if self._broker is lists:
                return redis.llen(self._key)
            (group,) = redis.xinfo_groups(self._key)
            return group["pending"] + (group["lag"] or 0)


PEERS = [
    Taskiq(
        "stream", "streams", streams, "taskiq-stream",
        "In Redis only. At least once: acknowledged after the run; what a killed worker had is taken over when it is "
        "idle for 10 min, as is any job that runs longer. No tenant, no history.",
    ),
    Taskiq(
        "list", "lists", lists, "taskiq-list",
        "In Redis only. At most once: a kill loses the jobs that run and those fetched ahead. No tenant, no history.",
    ),
]  # fmt: skip
