"""What a run costs PostgreSQL: processor time and WAL, by the way in which it is sent and by what it does.

    python benchmarks/costs.py [--write]

Three minutes. Times are those that the kernel charges to the processes, not those that pass. Another load on the
machine changes them less; but runs take longer then, so packets are shorter, which costs more. `--write` writes the
table to benchmarks/COSTS.md, out of which benchmarks/cells.py works.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from statistics import median

from harness import FOLDER, OURS, PACKETS, TENANT, Worker, clear, environment, servers
from processes import processor_seconds
from shared import IMPORTS, OF_A_PRODUCT

from cgk_tasks import SendItem, TenantEvent, send_job, send_jobs
from cgk_tasks.embedded import Services
from cgk_tasks.sql.postgres import autocommit

FILE = FOLDER / "COSTS.md"
_PACE = 100
"""Sends a second of those that are sent one by one: few enough for each to be executed before the next one comes."""

_WARM = 100
_IDLE_SECONDS = 15
_REPEATS = 3

_COMPLETED = "SELECT count(*) FROM cgk.run_history WHERE event = %s AND state = 'completed'"
_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"


@dataclass(frozen=True)
class Cost:
    """Processor time, in seconds, and bytes of WAL."""

    postgres: float
    redis: float
    workers: float
    sender: float
    wal: float

    def since(self, before: Cost, runs: int) -> Cost:
        """What was added since then, for each of so many runs."""
        pairs = ((getattr(self, one.name), getattr(before, one.name)) for one in fields(self))
        return Cost(*((now - then) / runs for now, then in pairs))


@dataclass(frozen=True)
class Way:
    """How runs are sent, and what they do."""

    name: str
    event: str
    count: int
    item: Callable[[int], SendItem | TenantEvent]
    bulk: bool = True


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a run costs PostgreSQL.")
    parser.add_argument("--write", action="store_true", help=f"write the table to benchmarks/{FILE.name}")
    options = parser.parse_args()
    with servers() as services, environment({IMPORTS: OF_A_PRODUCT, PACKETS[0]: PACKETS[1]}):
        import report
        from throughput import learn_run_times  # wants the address of the broker

        ways, rows = _ways(), []
        for event, way in {way.event: way for way in ways}.items():
            learn_run_times(event, partial(_send_one, way.item(0)))
        for way in ways:
            repeated = [_told(way, _measured(services, way)) for _ in range(_REPEATS)]
            rows.append(_row(way, _median(repeated)))
        page = _page(rows, _idle(services), report.machine(), report.postgres())
    print(page)
    if options.write:
        FILE.write_text(page, encoding="utf-8")
    return 0


def _ways() -> list[Way]:
    from jobs import Limited, WriteRow
    from sends import ours_order

    def row(number: int) -> TenantEvent:
        return WriteRow(tenant_id=TENANT, order_id=f"o-{number}", amount=59.97)

    def limited(number: int) -> TenantEvent:
        return Limited(tenant_id=TENANT, number=number)

    return [
        Way("sent one by one, does nothing", "order.created", 600, ours_order, bulk=False),
        Way("sent one by one, writes a row with `ctx.db`", "bench.write", 600, row, bulk=False),
        Way("sent in bulk, does nothing", "order.created", 20_000, ours_order),
        Way("sent in bulk, writes a row with `ctx.db`", "bench.write", 4_000, row),
        Way("sent in bulk, of a job with a limit, does nothing", "bench.limited", 10_000, limited),
    ]


def _measured(services: Services, way: Way) -> Cost:
    """Of a worker that has run some before: starting, importing and planning are not counted."""
    clear()
    with Worker(*OURS) as worker, autocommit() as connection:

        def execute(items: Iterable[SendItem | TenantEvent], expected: int) -> None:
            _send(way, items)
            worker.wait(lambda: connection.execute(_COMPLETED, [way.event]).fetchone()[0] >= expected)

        items = (way.item(number) for number in range(_WARM + way.count))
        execute(islice(items, _WARM), _WARM)
        before = _spent(services, worker.pid)
        execute(items, _WARM + way.count)
        return _spent(services, worker.pid).since(before, way.count)


def _idle(services: Services) -> Cost:
    """For each second of a worker that nothing is sent to."""
    clear()
    with Worker(*OURS) as worker, autocommit() as connection:
        send_job("order.created", {"tenantId": TENANT, "orderId": "o-1", "totalAmount": 59.97})
        worker.wait(lambda: connection.execute(_COMPLETED, ["order.created"]).fetchone()[0] == 1)
        before = _spent(services, worker.pid)
        time.sleep(_IDLE_SECONDS)
        return _spent(services, worker.pid).since(before, _IDLE_SECONDS)


def _send(way: Way, items: Iterable[SendItem | TenantEvent]) -> None:
    if way.bulk:
        send_jobs(items)
        return
    due = time.monotonic()
    for item in items:
        time.sleep(max(0.0, due - time.monotonic()))
        due += 1 / _PACE
        _send_one(item)


def _send_one(item: SendItem | TenantEvent) -> None:
    if isinstance(item, SendItem):
        send_job(item.event, item.payload)
    else:
        send_job(item)


def _spent(services: Services, worker: int) -> Cost:
    with autocommit() as connection:
        (wal,) = connection.execute(_WAL).fetchone()
    servers_ = (processor_seconds(server.pid or 0) for server in (services.postgres, services.redis))
    return Cost(*servers_, processor_seconds(worker), time.process_time(), wal)


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(median(getattr(cost, one.name) for cost in costs) for one in fields(Cost)))


def _told(way: Way, cost: Cost) -> Cost:
    print(_row(way, cost), file=sys.stderr, flush=True)
    return cost


def _row(way: Way, cost: Cost) -> str:
    times = (f"{1e6 * seconds:,.0f} µs" for seconds in (cost.postgres, cost.redis, cost.workers, cost.sender))
    return f"| {' | '.join((way.name, *times, f'{cost.wal:,.0f} B'))} |"


def _page(rows: list[str], idle: Cost, machine: str, postgres: str) -> str:
    heading = "| a run | PostgreSQL | Redis | workers | sender | WAL |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    of_postgres, of_redis, of_worker = (f"{1e3 * one:.1f} ms" for one in (idle.postgres, idle.redis, idle.workers))
    return f"""# What a run costs

Made by `python benchmarks/costs.py --write` on {datetime.now(UTC).date()}: processor time of each part and bytes of WAL
for a run, from its send to its end, in a worker with two processes; medians of {_REPEATS}. Those that are sent one by
one come {_PACE} a second. What the servers and the worker do anyway is in it: with nothing sent, a second took
{of_postgres} of PostgreSQL, {of_redis} of Redis and {of_worker} of the worker.

- Machine: {machine}
- PostgreSQL: {postgres}

{heading}
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    raise SystemExit(main())
