"""The exporter: what PostgreSQL knows, as Prometheus metrics. One for a deployment; several do no harm."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import psycopg
import structlog
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.config import get_settings
from cgk_tasks.config.addresses import host_and_port
from cgk_tasks.errors import CgkTasksError, ConfigurationError
from cgk_tasks.monitoring.metric_names import BY_NAME
from cgk_tasks.monitoring.open_runs import OpenRunsCounter
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.schedules.health import late_schedules, leading_beat
from cgk_tasks.sql.postgres import autocommit, fetch, fetch_or_before, statements
from cgk_tasks.worker.dispatcher import LEASE

SQL, MERGING, USAGE, GUARDS = statements("metrics"), statements("merging"), statements("usage"), statements("guards")
QUARANTINE, INBOUND = statements("quarantine"), statements("inbound")
log = structlog.get_logger("cgk_tasks.metrics")

OTHER_TENANTS = "other"


class ExporterCollector(Collector):
    """Asks PostgreSQL at each scrape; the count of the open runs is kept for some seconds."""

    def __init__(self) -> None:
        self._counter = OpenRunsCounter()
        self._unavailable = RecurringWarning(log, "exporter_unavailable", "exporter_available")

    def collect(self) -> Iterator[Metric]:
        try:
            found = [
                *self._totals(),
                *self._open_runs(),
                *_usage(),
                *_schedules(),
                _skipped_sends(),
                *_guards(),
                _quarantined(),
                _received(),
            ]
        except (psycopg.Error, CgkTasksError) as exc:
            self._unavailable.warn(reason=str(exc).strip())
            yield _family("cgk_database_up", [((), 0)])
            return
        self._unavailable.is_over()
        yield _family("cgk_database_up", [((), 1)])
        yield from found

    def _totals(self) -> Iterator[Metric]:
        values = {"timeout": get_settings().worker_timeout_seconds, "lease": LEASE}
        with autocommit() as connection:
            row = fetch(connection, SQL["totals"], values)[0]
            clocks = fetch(connection, SQL["worker_clocks"], values)
        yield _family("cgk_dispatcher_lag_seconds", [((), row["dispatcher_lag"] or 0.0)])
        yield _family("cgk_dispatcher_leads", [((), row["dispatcher_leads"])])
        yield _family("cgk_workers", [((state,), row[state]) for state in ("alive", "silent")])
        yield _family("cgk_workers_draining", [((), row["draining"])])
        yield _family("cgk_worker_clock_offset_seconds", [((one["name"],), one["seconds"]) for one in clocks])
        yield _family("cgk_tenants", [((status,), row[status]) for status in ("active", "suspended")])

    def _open_runs(self) -> Iterator[Metric]:
        counted = self._counter.read()
        states: dict[tuple[str, ...], float] = defaultdict(float)
        waiting: dict[tuple[str, ...], float] = defaultdict(float)
        oldest: dict[tuple[str, ...], float] = defaultdict(float)
        for row in counted.groups:
            states[row["state"], row["event"]] += row["runs"]
            if row["gate"] is not None:
                gate = row["queue"], row["gate"]
                waiting[gate] += row["runs"]
                oldest[gate] = max(oldest[gate], row["oldest_seconds"])
        tenants = [((row["tenant_id"] or OTHER_TENANTS,), row) for row in counted.tenants]
        yield _family("cgk_open_runs", states.items())
        yield _family("cgk_waiting_runs", waiting.items())
        yield _family("cgk_waiting_oldest_seconds", oldest.items())
        yield _family("cgk_tenant_open_runs", [(tenant, row["runs"]) for tenant, row in tenants])
        yield _family("cgk_tenant_oldest_seconds", [(tenant, row["oldest_seconds"] or 0.0) for tenant, row in tenants])
        yield _family("cgk_exporter_count_seconds", [((), counted.seconds)])
        yield _family("cgk_exporter_count_age_seconds", [((), counted.age_seconds)])


def _usage() -> Iterator[Metric]:
    """Of the hour that was counted last. Before the end of an upgrade there is none."""
    rows = []
    if SWITCH.current().has_lanes:
        with autocommit() as connection:
            rows = fetch(connection, USAGE["last_hour"], {"top": get_settings().metrics_top_tenants})
    for name in ("runs", "failed", "run_seconds", "queue_seconds", "rejected"):
        samples = [((row["tenant_id"] or OTHER_TENANTS,), row[name]) for row in rows]
        yield _family(f"cgk_tenant_hour_{name}", samples)


def _schedules() -> Iterator[Metric]:
    with autocommit() as connection:
        missed = fetch(connection, SQL["ticks_missed"])
    yield _family("cgk_beat_leads", [((), leading_beat() is not None)])
    yield _family("cgk_schedule_late_seconds", [((late.name,), late.seconds_late) for late in late_schedules()])
    yield _family("cgk_schedule_ticks_missed", [((row["schedule"],), row["ticks"]) for row in missed])


def _skipped_sends() -> Metric:
    with autocommit() as connection:
        rows = fetch_or_before(connection, MERGING["skipped_sends"], MERGING["no_skipped_sends"])
    return _family("cgk_sends_skipped_total", [((row["rule"],), row["skipped"]) for row in rows])


def _quarantined() -> Metric:
    with autocommit() as connection:
        rows = fetch_or_before(connection, QUARANTINE["count"], QUARANTINE["count_before"])
    return _family("cgk_tenants_quarantined", [((), row["tenants"]) for row in rows])


def _received() -> Metric:
    with autocommit() as connection:
        rows = fetch_or_before(connection, INBOUND["delivery_counts"], INBOUND["no_delivery_counts"])
    return _family(
        "cgk_webhooks_received_total", [((row["source"], row["outcome"]), row["deliveries"]) for row in rows]
    )


def _guards() -> Iterator[Metric]:
    with autocommit() as connection:
        rows = fetch_or_before(connection, GUARDS["metrics"], GUARDS["no_metrics"])
    columns = {"limit": "limit_now", "closed": "closed", "asked_total": "asked", "failures_total": "failed"}
    for name, column in columns.items():
        yield _family(f"cgk_guard_{name}", [((row["name"],), row[column]) for row in rows])


def _family(name: str, samples: Any) -> Metric:
    family: Any = BY_NAME[name].family()
    for labels, value in samples:
        family.add_metric(list(labels), value)
    made: Metric = family
    return made


def registry() -> CollectorRegistry:
    """A registry with the exporter's metrics and nothing else."""
    made = CollectorRegistry()
    made.register(ExporterCollector())
    return made


def exposition() -> str:
    """The metrics as Prometheus' text, once."""
    return generate_latest(registry()).decode()


def address() -> tuple[str, int]:
    """CGK_EXPORTER as host and port. Raises ConfigurationError."""
    return host_and_port("CGK_EXPORTER", get_settings().exporter)


def serve(stopping: threading.Event, ready: Any = None) -> None:
    """Serve `/metrics` on CGK_EXPORTER until `stopping` is set. `ready` is called with the port that listens.

    Raises ConfigurationError when the address cannot be served on.
    """
    host, port = address()
    try:
        server, thread = start_http_server(port, host, registry())
    except OSError as exc:
        raise ConfigurationError(
            f"{host}:{port} cannot be served on: {exc}.", hint="Set CGK_EXPORTER to another one."
        ) from exc
    try:
        if ready is not None:
            ready(server.server_port)
        stopping.wait()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
