"""Streams of the HTTP API: how late ends are told, and what a gateway takes for 1,000 streams.

    python benchmarks/streams.py
    python benchmarks/streams.py --streams 1000 --rate 50 --idle 20 --history-days 30

Each stream is about a run of its own, and all are served by one process. While nothing happens its processor time is
measured, and that of its connections to PostgreSQL. Then the runs are ended one after another: an end is late by the
time from its commit, as its caller sees it, to the message at the client, on the same machine. With --rate 0 they end
as fast as that goes. The budget is 300 ms at the 99th percentile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from processes import kilobytes, processor_seconds

from cgk_tasks import cancel_run, embedded, send_jobs
from cgk_tasks.config import use_settings
from cgk_tasks.events import TenantEvent
from cgk_tasks.gateway import create_key
from cgk_tasks.migrations import migrate
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import add_tenant

BUDGET_MS = 300.0
TENANT = "bench"


class Watched(TenantEvent, event="bench.watched"):
    """Nobody runs it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=50.0, help="ends a second; 0: as fast as it goes")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds in which nothing happens")
    parser.add_argument("--history-days", type=int, default=30, help="partitions that the history has")
    options = parser.parse_args()
    with embedded.temporary() as services:
        for name in [name for name in os.environ if name.startswith("CGK_")]:
            del os.environ[name]
        os.environ |= {
            "CGK_DATABASE_URL": services.database_url, "CGK_BROKER_URL": services.broker_url, "JOBS_PROVIDER": "celery",
            "CGK_GATEWAY_STREAMS_AT_ONCE": str(options.streams), "CGK_GATEWAY_STREAM_SECONDS": "3600",
            "CGK_GATEWAY_REQUESTS_PER_MINUTE": "0", "CGK_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        use_settings(None)
        migrate()
        add_tenant(TENANT)
        partition(options.history_days)
        return asyncio.run(measure(options.streams, options.rate, options.idle))


def partition(days: int) -> None:
    """A history as after so many days, whose partitions a look for an end has to go through."""
    with autocommit() as connection:
        for day in range(2, days):
            connection.execute(
                f"CREATE TABLE cgk.run_history_bench_{day} PARTITION OF cgk.run_history "
                f"FOR VALUES FROM (current_date - {day}) TO (current_date - {day - 1})"
            )


async def measure(streams: int, rate: float, idle: float) -> int:
    runs = [handle.id for handle in send_jobs([Watched(tenant_id=TENANT)] * streams)]
    key = create_key(TENANT, ["read"]).secret.get_secret_value()
    ended: dict[str, float] = {}
    with gateway() as (process, port):
        before = kilobytes(process.pid, "Pss")
        opened = asyncio.Semaphore(0)
        begun = time.monotonic()
        watching = [asyncio.create_task(watch(port, key, run_id, opened, ended)) for run_id in runs]
        for _ in runs:
            await opened.acquire()
        print(f"opened {streams:,} streams in {time.monotonic() - begun:.1f} s")
        taken = kilobytes(process.pid, "Pss")
        print(f"memory: {taken / 1024:.0f} MB, {(taken - before) / streams:.0f} KB a stream")
        backends, spent = pids_of_backends(process.pid), (0.0, 0.0)
        spent = processor_seconds(process.pid), sum(map(processor_seconds, backends))
        await asyncio.sleep(idle)
        own = processor_seconds(process.pid) - spent[0]
        backend = sum(map(processor_seconds, backends)) - spent[1]
        print(f"while nothing happens: {own / idle:.1%} of a core, {len(backends)} backends {backend / idle:.1%}")
        at = await asyncio.to_thread(end, runs, rate)
        await asyncio.wait_for(asyncio.gather(*watching), 60)
    late = [(ended[run_id] - at[run_id]) * 1e3 for run_id in runs]
    p50, p99 = (statistics.quantiles(late, n=100)[percent - 1] for percent in (50, 99))
    print(f"ends told after: p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {max(late):.0f} ms (budget {BUDGET_MS:.0f} ms)")
    return 0 if p99 <= BUDGET_MS else 1


async def watch(port: int, key: str, run_id: str, opened: asyncio.Semaphore, ended: dict[str, float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /v1/runs/{run_id}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    )
    is_open = False
    while line := await reader.readline():
        if line.startswith(b"data: "):
            if b'"isClosed":true' in line:
                ended[run_id] = time.monotonic()
                break
            if not is_open:
                is_open = True
                opened.release()
    writer.close()


def end(runs: list[str], rate: float) -> dict[str, float]:
    """When the end of each was committed."""
    at, begun = {}, time.monotonic()
    for number, run_id in enumerate(runs):
        if rate:
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        cancel_run(run_id)
        at[run_id] = time.monotonic()  # the flush to the disk, which comes before the commit, is not the gateway's
    return at


@contextmanager
def gateway() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cgk_tasks.cli", "gateway", "--port", "0"], stdout=log, stderr=log
        )
        while not (said := re.search(r":(\d+)/v1 until", Path(log.name).read_text())):
            if process.poll() is not None:
                raise RuntimeError(Path(log.name).read_text())
            time.sleep(0.05)
        try:
            yield process, int(said[1])
        finally:
            process.terminate()
            process.wait()


def pids_of_backends(pid: int) -> list[int]:
    """Of PostgreSQL, those that serve a process's connections."""
    ports = {connection.laddr.port for connection in psutil.Process(pid).net_connections("tcp") if connection.raddr}
    with autocommit() as connection:
        rows = fetch(connection, "SELECT pid, client_port FROM pg_stat_activity WHERE datname = current_database()")
        mine = connection.info.backend_pid
    return [row["pid"] for row in rows if row["pid"] != mine and (not ports or row["client_port"] in ports | {-1})]


if __name__ == "__main__":
    raise SystemExit(main())
