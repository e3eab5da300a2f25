"""What the benchmarks share: servers, settings, workers, repetition and figures."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared import MARKS, PLAIN_QUEUE, PLAIN_WITH_RESULTS_QUEUE, REDIS_URL, client

from cgk_tasks import embedded
from cgk_tasks.config import use_settings
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit

FOLDER = Path(__file__).parent
TENANT = "bench"
PLAIN = ("plain_app", PLAIN_QUEUE)
PLAIN_WITH_RESULTS = ("plain_app:with_results", PLAIN_WITH_RESULTS_QUEUE)
OURS = ("cgk_tasks", "cgk")
"""App and queue, as `celery worker` is told them."""

ONE_ID_A_MESSAGE = ("CGK_PACKET_BUDGET_SECONDS", "0.000001")
PACKETS = ("CGK_PACKET_BUDGET_SECONDS", "0.1")
"""Everything is measured with one run in a message, unless it says that packets are on."""

_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """How much is measured. `repeats`: the figures are medians of so many repetitions."""

    repeats: int = 3
    backlog: int = 3_000
    deep_backlog: int = 10_000
    rows: int = 4_000
    payload_bytes: int = 30_000_000
    bulk: int = 10_000
    sends: int = 1_000
    lone_jobs: int = 200
    due_runs: int = 200
    peer_sends: int = 300
    peer_lone_jobs: int = 100
    workflows: int = 500
    sleepers: int = 1_000_000
    idle_seconds: float = 10.0
    open_runs: tuple[int, ...] = (100, 10_000, 1_000_000)
    tenants: tuple[int, ...] = (1, 1_000, 100_000)
    history_per_second: int = 100


QUICK = Plan(
    repeats=1, backlog=1_000, deep_backlog=4_000, rows=400, payload_bytes=3_000_000, bulk=2_000, sends=300,
    lone_jobs=50, due_runs=100, peer_sends=100, peer_lone_jobs=30, workflows=100, sleepers=10_000, idle_seconds=3.0,
    open_runs=(100, 10_000), tenants=(1, 1_000), history_per_second=10,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line of the table. `limit`: what the ratio ours : plain (or our figure, without plain) may be."""

    what: str
    plain: float | None
    ours: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.plain is None else self.ours / self.plain

    @property
    def judged(self) -> float:
        """What the budget is about: the ratio, or our figure where plain Celery has none."""
        return self.ours if self.ratio is None else self.ratio

    @property
    def within(self) -> bool | None:
        """None without a budget."""
        if self.at_least is not None:
            return self.judged >= self.at_least
        return None if self.at_most is None else self.judged <= self.at_most


@dataclass(frozen=True)
class Table:
    """A table of the page that is not ours against plain Celery. `name`: by which other pages quote it."""

    name: str
    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


Measured = list[Line] | Table


@contextmanager
def servers() -> Iterator[embedded.Services]:
    """A private PostgreSQL (with fsync) and Redis in a temporary folder, and the settings that name them."""
    with tempfile.TemporaryDirectory(prefix="cgk-bench-") as folder:
        Path(folder).chmod(0o711)  # root's PostgreSQL runs as another user
        with embedded.start(Path(folder)) as services:
            for name in [name for name in os.environ if name.startswith("CGK_")]:
                del os.environ[name]
            os.environ |= {
                "JOBS_PROVIDER": "celery",
                "CGK_DATABASE_URL": services.database_url,
                "CGK_BROKER_URL": services.broker_url,
                REDIS_URL: services.broker_url,
                "CGK_JOB_MODULES": "jobs",
                "CGK_TENANT_SETUP": "jobs:create_table",
                "CGK_LOG_LEVEL": "WARNING",
                ONE_ID_A_MESSAGE[0]: ONE_ID_A_MESSAGE[1],
            }
            use_settings(None)
            prepare()
            yield services


@contextmanager
def setting(variable: str, value: str) -> Iterator[None]:
    """Another value of a setting, for this process and the workers it starts."""
    with environment({variable: value}):
        yield


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Other values of settings, for this process and the workers it starts."""
    before = {name: os.environ.get(name) for name in values}
    try:
        os.environ.update(values)
        use_settings(None)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        use_settings(None)


def prepare() -> None:
    """The schema, the tenant, and the table of the plain task."""
    from cgk_tasks.migrations import migrate
    from cgk_tasks.tenancy import add_tenant

    migrate()
    add_tenant(TENANT)
    with autocommit() as connection:
        connection.execute("CREATE TABLE public.rows (order_id text NOT NULL, amount numeric NOT NULL)")


def clear() -> None:
    """Empty Redis and the record, lanes included: each repetition begins alike. Only while no worker runs."""
    from cgk_tasks.admission.limits import LANES
    from cgk_tasks.flow.crowded import CROWDED

    with client() as broker:
        broker.flushdb()
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.run_history, cgk.run_bodies, cgk.lanes, cgk.shares, cgk.gates")
        connection.execute("CHECKPOINT")
    for part in (LANES, CROWDED):
        current_runtime().drop(part)


def celery_worker(app: str, queue: str) -> list[str]:
    """`celery -A APP worker -c 2`, the same command for both kinds."""
    return [
        *(sys.executable, "-m", "celery", "-A", app, "worker", "--queues", queue),
        *("--concurrency", "2", "--pool", "prefork", "--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle"),  # a second's wait for other workers hides the start
    ]


class Workers:
    """Running commands of one system, which end with the block."""

    def __init__(self, *commands: Sequence[str]) -> None:
        self._log = Path(tempfile.mkstemp(prefix="cgk-bench-", suffix=".log")[1])
        self.started_at = time.time()
        with self._log.open("wb") as output:
            self.processes = [
                subprocess.Popen(
                    command, cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )
                for command in commands
            ]  # fmt: skip

    @property
    def pid(self) -> int:
        return self.processes[0].pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._log.unlink()

    def wait(self, condition: Callable[[], bool], every_seconds: float = 0.05) -> None:
        """Until the condition is true. Raises RuntimeError with what the workers said."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            if self.have_ended or time.monotonic() > give_up:
                command = " ".join(map(str, self.processes[0].args[1:]))
                raise RuntimeError(f"`{command}` did not do it:\n{self.said()[-4000:]}")
            time.sleep(every_seconds)

    @property
    def have_ended(self) -> bool:
        return any(process.poll() is not None for process in self.processes)

    def said(self) -> str:
        """What they have written."""
        return self._log.read_text(encoding="utf-8", errors="replace")


class Worker(Workers):
    """`celery -A APP worker -c 2`."""

    def __init__(self, app: str, queue: str) -> None:
        super().__init__(celery_worker(app, queue))


def wait_for_marks(worker: Workers, count: int, every_seconds: float = 0.05) -> list[float]:
    """The first `count` times that tasks wrote, and forget them."""
    with client() as broker:
        worker.wait(lambda: broker.llen(MARKS) >= count, every_seconds)
        marks = [float(mark) for mark in broker.lrange(MARKS, 0, -1)]
        broker.delete(MARKS)
    return marks


def repeat(times: int, measured: Mapping[str, Callable[[], Sequence[float]]]) -> dict[str, list[float]]:
    """Call each in turn, `times` over, so that a slow minute of the machine hits all. Returns medians by name."""
    figures: dict[str, list[Sequence[float]]] = {name: [] for name in measured}
    for _ in range(times):
        for name, measure in measured.items():
            clear()
            try:
                figures[name].append(measure())
            except RuntimeError as error:  # a worker that hung once: a second time it counts
                print(f"  once more, {name}: {str(error).splitlines()[0]}", file=sys.stderr)
                clear()
                figures[name].append(measure())
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()}


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
