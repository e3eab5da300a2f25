"""A worker's own metrics over HTTP: what its processes have counted in shared memory (`cgk_tasks.worker.counters`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import structlog
from celery import bootsteps
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cgk_tasks.config import get_settings
from cgk_tasks.monitoring.metric_names import BY_NAME
from cgk_tasks.sql import postgres
from cgk_tasks.sql.door import observe
from cgk_tasks.sql.pool import CONNECTIONS_LIMIT
from cgk_tasks.sql.statements import Statement, every_statement
from cgk_tasks.worker import counters
from cgk_tasks.worker.counters import BUCKETS, STATEMENT_BUCKETS, Counters

if TYPE_CHECKING:
    from celery.worker import WorkController

log = structlog.get_logger("cgk_tasks.metrics")

_SPARE_PROCESSES = 32  # for `pool_grow`


class WorkerCollector(Collector):
    """Reads the shared memory at each scrape."""

    def __init__(self, counted: Counters) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        yield from self._attempts()
        yield self._statements()
        ended: Any = BY_NAME["cgk_runs_ended_total"].family()
        for event, state, number in self._counted.ends():
            ended.add_metric([event, state], number)
        yield ended
        self._counted.level("connections", postgres.open_connections())
        for name, counter in (
            ("cgk_run_deaths_total", "deaths"),
            ("cgk_packets_total", "packets"),
            ("cgk_packet_runs_total", "packet_runs"),
            ("cgk_workers_lost_total", "workers_lost"),
            ("cgk_database_connections", "connections"),
        ):
            yield _single(name, self._counted.total(counter))
        yield _single("cgk_database_connections_limit", CONNECTIONS_LIMIT)

    def _attempts(self) -> Iterator[Metric]:
        durations: Any = BY_NAME["cgk_attempt_duration_seconds"].family()
        retries: Counter[str] = Counter()
        for one in self._counted.durations():
            durations.add_metric([one.event, one.outcome], _buckets(BUCKETS, one.counts), one.seconds)
            if one.outcome == "retry":
                retries[one.event] += sum(one.counts)
        yield durations
        family: Any = BY_NAME["cgk_retries_total"].family()
        for event, number in retries.items():
            family.add_metric([event], number)
        yield family

    def _statements(self) -> Metric:
        family: Any = BY_NAME["cgk_sql_statement_duration_seconds"].family()
        for one in self._counted.statement_durations():
            family.add_metric([one.statement], _buckets(STATEMENT_BUCKETS, one.counts), one.seconds)
        made: Metric = family
        return made


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, int]]:
    """As Prometheus has them: each counts what is at most its bound."""
    names = (*map(str, bounds), "+Inf")
    return list(zip(names, accumulate(counts), strict=True))


def _count_statement(statement: Statement, seconds: float, _error: BaseException | None) -> None:
    if counted := counters.shared():
        counted.statement(statement.label, seconds)


def _single(name: str, value: float) -> Metric:
    family: Any = BY_NAME[name].family()
    family.add_metric([], value)
    made: Metric = family
    return made


class MetricsStep(bootsteps.StartStopStep):
    """Shares the memory before the pool forks, and serves its counters while the worker runs. Off without a port."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: WorkController, **options: Any) -> None:
        super().__init__(parent, **options)
        self._address = get_settings().metrics_served_on
        self.enabled = self._address is not None
        self._server: Any = None

    def create(self, worker: WorkController) -> None:
        options = vars(worker)
        processes = max(int(options.get("concurrency") or 1), int(options.get("max_concurrency") or 1))
        events = [name for name in worker.app.tasks if not name.startswith("celery.")]
        counters.share(events, processes + _SPARE_PROCESSES, [one.label for one in every_statement()])
        observe(_count_statement)

    def start(self, worker: WorkController) -> None:  # noqa: ARG002
        counted = counters.shared()
        assert counted is not None
        registry = CollectorRegistry()
        registry.register(WorkerCollector(counted))
        assert self._address is not None
        host, port = self._address
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server, _thread = start_http_server(port, host, registry)
        except OSError as exc:
            # The work matters more than its counters.
            log.error("metrics_not_served", address=address, reason=str(exc))  # noqa: TRY400
            return
        log.info("metrics_served", address=address)

    def stop(self, worker: WorkController) -> None:  # noqa: ARG002
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def terminate(self, worker: WorkController) -> None:
        self.stop(worker)
