"""Budgets of admission: what runs that wait cost the others, how fast passes are, how soon a lone run starts, ageing.

    python benchmarks/admission.py [--waiting N] [--tenants N] [--flood N] [--probes N]

Ratios and rates of one run, on private servers. Exit 1 where a budget is missed. At the size that it has without
arguments it takes about two minutes; at full size it is `--waiting 1000000 --flood 100000`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import admission_lanes as lanes
from draining import COMPLETED
from harness import OURS, PACKETS, QUICK, TENANT, Plan, Table, Worker, environment, percentile, servers
from processes import processor_seconds

from cgk_tasks import SendItem, send_job, send_jobs
from cgk_tasks.config import get_settings
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import add_tenant


@dataclass(frozen=True)
class Size:
    """waiting: runs behind a full gate. tenants: the most of them with limits. runs: admitted or drained to measure
    something. flood, probes: runs of the one tenant, and lone ones of the other. idle_seconds: to look at idle workers;
    a leader goes through everything each half minute.
    """

    waiting: int = 100_000
    tenants: int = 20_000
    runs: int = 5_000
    flood: int = 8_000
    probes: int = 100
    idle_seconds: float = 30.0


SMALL = Size(waiting=20_000, tenants=2_000, runs=2_000, flood=2_000, probes=30, idle_seconds=2.0)


@dataclass(frozen=True)
class Budget:
    """A figure, and what it may be at most or at least. beside: what it is compared with, in the same unit."""

    what: str
    value: float
    unit: str
    beside: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    slack: float = 0.0
    """What it may be more than its part of `beside`, in its unit: a little of next to nothing is no sign."""

    @property
    def limit(self) -> float | None:
        """What the figure may be at most or at least."""
        limit = self.at_least if self.at_least is not None else self.at_most
        return limit if limit is None or self.beside is None else limit * self.beside + self.slack

    @property
    def is_kept(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least is not None else self.value <= self.limit

    def row(self) -> list[str]:
        ratio = "" if not self.beside else f"{self.value / self.beside:.2f} ×"  # noqa: RUF001
        sign = "" if self.limit is None else "≥ " if self.at_least is not None else "≤ "
        kept = {None: "", True: "yes", False: "**no**"}[self.is_kept]
        figures = (_figure(value, self.unit) for value in (self.beside, self.value))
        return [self.what, *figures, ratio, sign + _figure(self.limit, self.unit), kept]


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}{unit}" if unit == "/s" else f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def measure(plan: Plan) -> Table:
    """For benchmarks/run.py."""
    size = SMALL if plan == QUICK else Size()
    return table(size, list(budgets(size)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("waiting", "tenants", "runs", "flood", "probes"):
        default = getattr(Size(), name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{default:,}")
    size = Size(**vars(parser.parse_args()))
    with servers():
        import report

        found = list(budgets(size))
        print(report.tables([table(size, found)]))
        print(f"{report.machine()}; PostgreSQL {report.postgres()}")
    return int(any(one.is_kept is False for one in found))


def table(size: Size, found: list[Budget]) -> Table:
    return Table(
        "admission",
        "Budgets of admission",
        f"*Without* and *with* {size.waiting:,} runs that wait behind a full gate; other lines have nothing to be "
        f"compared with. Passes are made in one process, over lanes that SQL has filled, until {size.runs:,} runs are "
        "admitted; their seconds are those of processors, the leader's and PostgreSQL's. What is executed, the flood "
        "and lone runs go through a worker with two processes, and their seconds are those that pass.",
        ("what", "without", "with", "ratio", "budget", "kept"),
        [one.row() for one in found],
    )


def budgets(size: Size) -> Iterator[Budget]:
    from throughput import learn_run_times  # wants the address of the broker

    learn_run_times()
    for part in (waiting_runs, limits_on, lone_runs, ageing):
        begun = time.monotonic()
        for one in part(size):
            print(" ".join(one.row()), file=sys.stderr, flush=True)
            yield one
        print(f"{part.__name__}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


# ---- runs behind a full gate

_SLACK = {"µs": 5.0, "ms": 2.0, "ms/s": 5.0}
_ROUNDS = 5
_OTHERS = 50
_SETTLE_SECONDS = 6.0
"""A leader looks less often where nothing could start for some seconds."""


def waiting_runs(size: Size) -> Iterator[Budget]:
    """The same with and without runs behind a full gate, all of one tenant."""
    figures = {}
    for waiting in (0, size.waiting):
        lanes.empty()
        if waiting:
            (lane,) = lanes.fill(1, waiting, prefix="behind-", event="bench.nap", at_once=1)
            lanes.occupy(lane)
        figures[waiting] = [*_passes_of_others(size.runs), *_worker_of_others(size)]
    for (what, without, unit), (_, with_them, _) in zip(figures[0], figures[size.waiting], strict=True):
        if unit == "/s":
            yield Budget(what, with_them, unit, without, at_least=0.85)
        else:
            yield Budget(what, with_them, unit, without, at_most=1.15, slack=_SLACK[unit])


def _passes_of_others(runs: int) -> Iterator[tuple[str, float, str]]:
    """Passes that admit runs of other tenants, which nothing limits."""
    lanes.add_worker(100)
    lanes.admit(0)  # it finds that the gate is full
    lanes.fill(_OTHERS, runs // _OTHERS, prefix="other-")
    done = lanes.admit(runs // _OTHERS * _OTHERS)
    yield "a pass, for each run that it admits", 1e6 * done.seconds / done.runs, "µs"
    done = lanes.pass_in_vain(100)
    yield "a pass that admits nothing", 1e3 * done.seconds / done.passes, "ms"
    lanes.remove_workers()


def _worker_of_others(size: Size) -> Iterator[tuple[str, float, str]]:
    """A worker that executes runs of another tenant, and one that has nothing to do."""
    with environment(dict([PACKETS])), Worker(*OURS) as worker, autocommit() as connection:

        def execute(runs: int) -> None:
            before = completed()
            send_jobs(_order(number) for number in range(runs))
            worker.wait(lambda: completed() == before + runs, every_seconds=0.1)

        def completed() -> int:
            return int(connection.execute(COMPLETED, ("order.created",)).fetchone()[0])

        _wait_for(worker)
        execute(1)
        rates, costs = [], []
        for _ in range(_ROUNDS):
            begun, spent = time.perf_counter(), lanes.postgres_seconds()
            execute(size.runs)
            rates.append(size.runs / (time.perf_counter() - begun))
            costs.append(1e6 * (lanes.postgres_seconds() - spent) / size.runs)
        yield "runs that are sent and executed meanwhile", statistics.median(rates), "/s"
        yield "processor time of PostgreSQL for each of them", statistics.median(costs), "µs"
        time.sleep(_SETTLE_SECONDS)
        begun, spent = time.perf_counter(), lanes.postgres_seconds()
        of_worker = processor_seconds(worker.pid)
        time.sleep(size.idle_seconds)
        seconds = time.perf_counter() - begun
        yield "PostgreSQL, while nothing is sent", 1e3 * (lanes.postgres_seconds() - spent) / seconds, "ms/s"
        yield "the worker, while nothing is sent", 1e3 * (processor_seconds(worker.pid) - of_worker) / seconds, "ms/s"


def _wait_for(worker: Worker) -> None:
    """Until it has said that it lives."""
    with autocommit() as connection:
        alive = "SELECT count(*) FROM cgk.workers WHERE name <> 'benchmark'"
        worker.wait(lambda: connection.execute(alive).fetchone()[0] > 0)


def _order(number: int) -> SendItem:
    return SendItem("order.created", {"tenantId": TENANT, "orderId": f"o-{number}", "totalAmount": 59.97})


# ---- limits


def limits_on(size: Size) -> Iterator[Budget]:
    """Passes over lanes with two gates each: one of their tenant, one of all."""
    for tenants in dict.fromkeys((1, min(1_000, size.tenants), size.tenants)):
        lanes.empty()
        lanes.add_worker(100)
        each = max(1, size.runs // tenants)
        lanes.fill(tenants, each, prefix="limited-", at_once=1_000 if tenants == 1 else 2, in_all=50_000)
        done = lanes.admit(min(size.runs, each * tenants))
        what = f"admitted, of {_some(tenants, 'tenant')} with limits, {_some(each, 'run')} each"
        yield Budget(what, done.runs / done.seconds, "/s", at_least=5_000)


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''}"


# ---- a lone run beside a flood

QUIET = "quiet"
_FLOOD_RUN_SECONDS = 0.002
_WAITED = """
SELECT extract(epoch FROM started_at - created_at)::float8 FROM cgk.run_history WHERE tenant_id = %s
"""


def lone_runs(size: Size) -> Iterator[Budget]:
    """Runs of a quiet tenant, one after another, while another tenant's flood is worked off."""
    lanes.empty()
    add_tenant(QUIET)
    every = size.flood * _FLOOD_RUN_SECONDS / 2 / size.probes  # by two processes
    with environment(dict([PACKETS])), Worker(*OURS) as worker, autocommit() as connection:

        def waits() -> list[float]:
            return [wait for (wait,) in connection.execute(_WAITED, [QUIET]).fetchall()]

        def left() -> int:
            return int(connection.execute("SELECT count(*) FROM cgk.runs WHERE tenant_id = %s", [TENANT]).fetchone()[0])

        _wait_for(worker)
        _send_nap(QUIET, 0.0)
        worker.wait(lambda: len(waits()) == 1)
        connection.execute("DELETE FROM cgk.run_history WHERE tenant_id = %s", [QUIET])
        current_runtime().drop(CROWDED)
        send_jobs(_nap(TENANT, _FLOOD_RUN_SECONDS) for _ in range(size.flood))
        for _ in range(size.probes):
            _send_nap(QUIET, 0.0)
            time.sleep(every)
        behind = left()
        worker.wait(lambda: len(waits()) == size.probes)
        found = waits()
    what = f"a lone run beside a flood of {size.flood:,}, {size.probes} of them; {behind:,} waited at the last one"
    yield Budget(f"{what}: p50", percentile(found, 50), "s")
    yield Budget("the same: p99", percentile(found, 99), "s", at_most=1.0)


def _nap(tenant: str, seconds: float) -> SendItem:
    return SendItem("bench.nap", {"tenantId": tenant, "seconds": seconds})


def _send_nap(tenant: str, seconds: float) -> None:
    send_job("bench.nap", {"tenantId": tenant, "seconds": seconds})


# ---- ageing

_STEPS = 9
"""Between the lowest priority and the highest."""

_URGENT = 20


def ageing(size: Size) -> Iterator[Budget]:
    """Each tenant has a run of the lowest priority, and some of the highest, which were due then and a step later each.
    Those that are less than nine steps younger come first, and then it.
    """
    tenants = min(500, size.tenants)
    step = get_settings().priority_step_seconds
    since = datetime.now(UTC) - timedelta(seconds=_URGENT * step)
    lanes.empty()
    lanes.add_worker(1)
    lanes.fill(tenants, _URGENT, prefix="aged-", priority=9, event="bench.high", since=since, apart=step)
    lanes.fill(tenants, 1, prefix="aged-", priority=0, event="bench.low", since=since)
    before: Counter[str] = Counter()
    places: list[int] = []

    def seen(admitted: list[Dispatch]) -> None:
        for run in admitted:
            if run.event == "bench.low":
                places.append(before[run.tenant_id])
            before[run.tenant_id] += 1

    done = lanes.admit(tenants * (_URGENT + 1), seen)
    what = f"a run of priority 0 among {_URGENT} of priority 9, of each of {tenants:,} tenants"
    yield Budget(f"{what}: how many come before it, p1", percentile(places, 1), "", at_least=_STEPS - 2)
    yield Budget("the same: p99", percentile(places, 99), "", at_most=_STEPS + 3)
    yield Budget("the same: admitted", done.runs / done.seconds, "/s", at_least=5_000)


if __name__ == "__main__":
    raise SystemExit(main())
