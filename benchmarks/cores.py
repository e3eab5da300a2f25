"""What one core and two cores drain, what was expected of two by what one did, and which process would be full first.

    python benchmarks/cores.py

Two minutes. Everything (PostgreSQL, Redis, the worker) has the same cores, so a backlog is drained at
cores / (processor time of a run). If that holds for one core and for two, the rest is arithmetic: what the cores of a
machine carry, until one process that there is only once has no more of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from harness import OURS, PACKETS, TENANT, Worker, clear, servers, setting
from processes import children, processor_seconds

from cgk_tasks import SendItem, TenantEvent, send_jobs
from cgk_tasks.embedded import Services
from cgk_tasks.sql.postgres import autocommit

_DONE = "SELECT count(*) FROM cgk.run_history WHERE event = %s AND state = 'completed'"
_WARM = 0.2
"""What is drained of a backlog before the measurement begins: a worker that starts is not measured."""

_REPEATS = 3
_POSTGRES_CORES = (4, 16, 64)
_BUSY = 0.6


@dataclass(frozen=True)
class Spent:
    """Processor time in seconds. main: of the worker's main process, which passes on what comes, and leads."""

    postgres: float
    redis: float
    main: float
    children: float

    @property
    def all(self) -> float:
        return self.postgres + self.redis + self.main + self.children


@dataclass(frozen=True)
class Drained:
    """rate: runs a second. Of a run: what it cost."""

    rate: float
    run: Spent


def main() -> int:
    found = {cores: _measured(cores) for cores in (1, 2)}
    print("\n".join([*_checked(found), "", *_carried(found[2])]))
    return 0


def _measured(cores: int) -> dict[str, Drained]:
    """The best of some repetitions on so many cores, which the servers and workers inherit."""
    os.sched_setaffinity(0, set(sorted(_ALL)[:cores]))
    with servers() as services, setting(*PACKETS):
        from throughput import learn_run_times

        learn_run_times()
        best: dict[str, Drained] = {}
        for _ in range(_REPEATS):
            for name, (event, items) in _backlogs().items():
                one = _drain(services, event, items)
                print(f"{cores} cores, {name}: {one}", file=sys.stderr, flush=True)
                if name not in best or one.run.all < best[name].run.all:
                    best[name] = one
    return best


def _backlogs() -> dict[str, tuple[str, list[SendItem | TenantEvent]]]:
    from jobs import WriteRow
    from sends import ours_order

    rows: list[SendItem | TenantEvent] = [
        WriteRow(tenant_id=TENANT, order_id=f"o-{number}", amount=59.97) for number in range(6_000)
    ]
    return {
        "does nothing": ("order.created", [ours_order(number) for number in range(40_000)]),
        "writes a row with `ctx.db`": ("bench.write", rows),
    }


def _drain(services: Services, event: str, items: Iterable[SendItem | TenantEvent]) -> Drained:
    clear()
    given = [*items]
    send_jobs(given)
    with Worker(*OURS) as worker, autocommit() as connection:

        def done() -> int:
            return int(connection.execute(_DONE, [event]).fetchone()[0])

        worker.wait(lambda: done() >= _WARM * len(given), 0.2)
        first, began, before = done(), time.perf_counter(), _spent(services, worker.pid)
        worker.wait(lambda: done() == len(given), 0.2)
        runs, seconds, after = len(given) - first, time.perf_counter() - began, _spent(services, worker.pid)
    parts = zip(_parts(after), _parts(before), strict=True)
    return Drained(runs / seconds, Spent(*((now - then) / runs for now, then in parts)))


def _parts(spent: Spent) -> tuple[float, ...]:
    return spent.postgres, spent.redis, spent.main, spent.children


def _spent(services: Services, worker: int) -> Spent:
    times = psutil.Process(worker).cpu_times()
    return Spent(
        processor_seconds(services.postgres.pid or 0),
        processor_seconds(services.redis.pid or 0),
        times.user + times.system,
        sum(processor_seconds(child) for child in children(worker)),
    )


def _checked(found: dict[int, dict[str, Drained]]) -> list[str]:
    lines = [
        "| a run of a backlog | cores | PostgreSQL | Redis | main process | children | by that | measured | of that |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, cores in ((name, cores) for name in found[1] for cores in found):
        one = found[cores][name]
        parts = " | ".join(f"{1e6 * part:,.0f} µs" for part in _parts(one.run))
        expected = cores / one.run.all
        lines.append(
            f"| {name} | {cores} | {parts} | {expected:,.0f}/s | {one.rate:,.0f}/s | {one.rate / expected:.0%} |"
        )
    return lines


def _carried(found: dict[str, Drained]) -> list[str]:
    """What PostgreSQLs of so many cores carry, and from how many cores on one process is full before them."""
    cores = " | ".join(f"{cores} cores of PostgreSQL" for cores in _POSTGRES_CORES)
    lines = [
        f"| {_BUSY:.0%} of the cores busy | {cores} | Redis is full at | the leader is full at |",
        f"|{' --- |' * (3 + len(_POSTGRES_CORES))}",
    ]
    for name, one in found.items():
        carried = " | ".join(f"{_BUSY * cores / one.run.postgres:,.0f}/s" for cores in _POSTGRES_CORES)
        alone = " | ".join(f"{_BUSY / part:,.0f}/s" for part in (one.run.redis, one.run.main))
        lines.append(f"| {name} | {carried} | {alone} |")
    return lines


_ALL = os.sched_getaffinity(0)

if __name__ == "__main__":
    raise SystemExit(main())
