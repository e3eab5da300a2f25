"""pgqueuer in the same PostgreSQL: logged tables, its autovacuum settings, asyncpg; batches of its default,
and of 100.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from shared import MARKS, client

from cgk_tasks.sql.postgres import autocommit
from peers.peer import Peer, database_url, order

_BULK = 1_000

marks = client()


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    """What its workers run."""
    connection = await asyncpg.connect(database_url())
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("do_nothing")
    async def do_nothing(job: Job) -> None:
        json.loads(job.payload)

    @queuer.entrypoint("mark_start")
    async def mark_start(job: Job) -> None:
        marks.rpush(MARKS, time.time() - json.loads(job.payload))

    yield queuer
    await connection.close()


class Pgqueuer(Peer):
    packages = ("pgqueuer", "asyncpg", "uvloop")
    guarantees = (
        "Durable in PostgreSQL, without a broker. At least once: a killed worker's jobs are picked again after 30 s "
        "without a heartbeat. A log of outcomes. No tenant."
    )

    def __init__(self, batch: int, name: str) -> None:
        self.name = f"pgqueuer, {name}"
        self.how = f"two processes of `pgqueuer.run(batch_size={batch})`, uvloop"
        self._batch = batch
        self._runner = asyncio.Runner()
        self._queries: Queries | None = None

    def prepare(self) -> None:
        environment = os.environ | {"PGQUEUER_DSN": database_url()}
        with autocommit() as connection:
            if connection.execute("SELECT to_regclass('pgqueuer')").fetchone()[0] is None:
                for command in ("install", "autovac"):
                    program = [sys.executable, "-m", "pgqueuer", command]
                    subprocess.run(program, env=environment, check=True, capture_output=True)

        async def connect() -> Queries:
            return Queries(AsyncpgDriver(await asyncpg.connect(database_url())))

        self._queries = self._runner.run(connect())

    def clear(self) -> None:
        with autocommit() as connection:
            connection.execute("TRUNCATE pgqueuer, pgqueuer_log")

    def mark(self, since: float) -> None:
        self._runner.run(self._queries.enqueue("mark_start", json.dumps(since).encode()))

    def send(self, number: int) -> None:
        self._runner.run(self._queries.enqueue("do_nothing", _payload(number)))

    def send_many(self, count: int) -> None:
        async def send_all() -> None:
            for begin in range(0, count, _BULK):
                payloads = [_payload(number) for number in range(begin, min(begin + _BULK, count))]
                await self._queries.enqueue(["do_nothing"] * len(payloads), payloads, [0] * len(payloads))

        self._runner.run(send_all())

    def time_sends(self, count: int) -> list[float]:
        async def timed() -> list[float]:
            times = []
            for number in range(count):
                begun = time.perf_counter()
                await self._queries.enqueue("do_nothing", _payload(number))
                times.append(time.perf_counter() - begun)
            return times

        return self._runner.run(timed())

    def commands(self) -> list[list[str]]:
        # What `pgq run` does, from its documentation; the command itself fails with the newest typer.
        run = f"import uvloop, pgqueuer; uvloop.run(pgqueuer.run('peers.pgqueuer:main', batch_size={self._batch}))"
        return [[sys.executable, "-c", run]] * 2

    def left(self) -> int:
        with autocommit() as connection:
            return connection.execute("SELECT count(*) FROM pgqueuer").fetchone()[0]


def _payload(number: int) -> bytes:
    return json.dumps(order(number)).encode()


PEERS = [Pgqueuer(10, "batches of 10"), Pgqueuer(100, "batches of 100")]
