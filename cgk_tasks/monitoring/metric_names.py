"""Every metric by name: its type, labels and meaning. The reference page and the dashboards are checked against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric as it is exposed. Units are in the name; a counter's name ends with `_total`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    def family(self) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
        """An empty family to add samples to."""
        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        made: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily = kinds[self.kind](
            self.name, self.help, labels=self.labels
        )
        return made


WORKER: Final = (
    MetricSpec("cgk_attempt_duration_seconds", "histogram", ("event", "outcome"),
               "Attempts that ended, by how long they took. outcome: completed, retry, snooze, suspended, "
               "failed, cancelled or interrupted."),
    MetricSpec("cgk_runs_ended_total", "counter", ("event", "outcome"),
               "Runs that this worker closed. outcome: completed, failed, cancelled, expired or unhandled."),
    MetricSpec("cgk_retries_total", "counter", ("event",), "Attempts that failed and are followed by another one."),
    MetricSpec("cgk_run_deaths_total", "counter", (),
    "Runs that this worker reclaimed because their process had died."),
    MetricSpec("cgk_packets_total", "counter", (), "Messages whose runs were claimed."),
    MetricSpec("cgk_packet_runs_total", "counter", (),
               "Runs that were claimed. By cgk_packets_total: runs in a packet."),
    MetricSpec("cgk_sql_statement_duration_seconds", "histogram", ("statement",),
               "Statements of SQL on cgk_tasks' own tables, by how long each took with its way to PostgreSQL and back. "
               "statement: its file and name in cgk_tasks/sql."),
    MetricSpec("cgk_database_connections", "gauge", (),
               "Connections to PostgreSQL that the worker's processes hold open."),
    MetricSpec("cgk_database_connections_limit", "gauge", (), "Connections that one process may open."),
    MetricSpec("cgk_workers_lost_total", "counter", (),
    "Dead workers whose runs this worker reclaimed, as the leader."),
)  # fmt: skip
"""Served by a worker with CGK_METRICS_ADDRESS."""

EXPORTER: Final = (
    MetricSpec("cgk_database_up", "gauge", (), "1 if PostgreSQL answered this scrape; 0: other values are missing."),
    MetricSpec("cgk_open_runs", "gauge", ("state", "event"), "Open runs."),
    MetricSpec("cgk_waiting_runs", "gauge", ("queue", "gate"),
               "Runs that wait, by what holds them. gate: none (could run now), not_due, backoff, limit, "
               "tenant_suspended, queue_paused, paused or no_worker (no living worker listens to the queue)."),
    MetricSpec("cgk_waiting_oldest_seconds", "gauge", ("queue", "gate"),
               "Since when the oldest of these runs has been due; 0 for runs that are not."),
    MetricSpec("cgk_dispatcher_lag_seconds", "gauge", (),
               "Since when the oldest due run has not been dispatched; 0 if there is none."),
    MetricSpec("cgk_dispatcher_leads", "gauge", (), "1 if a worker leads as the dispatcher."),
    MetricSpec("cgk_workers", "gauge", ("state",), "Workers on record. state: alive or silent."),
    MetricSpec("cgk_workers_draining", "gauge", (),
               "Workers that are alive and take no more runs, because an operator drains them."),
    MetricSpec("cgk_worker_clock_offset_seconds", "gauge", ("worker",),
               "How far the clock of a worker that is alive is ahead of PostgreSQL's, or behind it (negative)."),
    MetricSpec("cgk_tenants", "gauge", ("status",), "Tenants. status: active or suspended."),
    MetricSpec("cgk_tenants_quarantined", "gauge", (), "Tenants that are paused because too many runs failed."),
    MetricSpec("cgk_tenant_open_runs", "gauge", ("tenant",),
               "Open runs of the tenants that have most of them (CGK_METRICS_TOP_TENANTS); the rest under `other`."),
    MetricSpec("cgk_tenant_oldest_seconds", "gauge", ("tenant",),
               "Since when the tenant's oldest run that could run now has been due."),
    MetricSpec("cgk_tenant_hour_runs", "gauge", ("tenant",),
               "Runs that closed in the last hour that was counted, of the tenants that ran longest "
               "(CGK_METRICS_TOP_TENANTS); the rest under `other`."),
    MetricSpec("cgk_tenant_hour_failed", "gauge", ("tenant",), "Of these runs, those that failed."),
    MetricSpec("cgk_tenant_hour_run_seconds", "gauge", ("tenant",), "How long their last attempts ran, in all."),
    MetricSpec("cgk_tenant_hour_queue_seconds", "gauge", ("tenant",),
               "How long they had been due before those began, in all."),
    MetricSpec("cgk_tenant_hour_rejected", "gauge", ("tenant",), "Sends that were refused in that hour."),
    MetricSpec("cgk_beat_leads", "gauge", (), "1 if a beat leads."),
    MetricSpec("cgk_schedule_late_seconds", "gauge", ("schedule",),
               "Schedules whose last tick did not start in time, and how late it is. None while all is well."),
    MetricSpec("cgk_schedule_ticks_missed", "gauge", ("schedule",), "Ticks that were given up in the last 24 hours."),
    MetricSpec("cgk_sends_skipped_total", "counter", ("rule",),
               "Sends that a RateLimit did not accept. rule: its event, kind, whose sends it counts and its key."),
    MetricSpec("cgk_guard_limit", "gauge", ("guard",),
               "How many runs that use the guard may be on at once now; of a guard per tenant, the least of them."),
    MetricSpec("cgk_guard_closed", "gauge", ("guard",),
               "1 while the guard is closed or lets one run at a time try; of a guard per tenant, for how many it is."),
    MetricSpec("cgk_guard_asked_total", "counter", ("guard",), "Answers of the partner that asked to wait (429)."),
    MetricSpec("cgk_guard_failures_total", "counter", ("guard",), "Runs that the partner failed."),
    MetricSpec("cgk_webhooks_received_total", "counter", ("source", "outcome"),
               "Webhooks that the gateway received. outcome: accepted, duplicate, ignored, refused (its signature), "
               "unmapped or failed."),
    MetricSpec("cgk_exporter_count_seconds", "gauge", (), "How long PostgreSQL took to count the open runs."),
    MetricSpec("cgk_exporter_count_age_seconds", "gauge", (), "How old the count of the open runs is."),
)  # fmt: skip
"""Served by `cgk-tasks metrics`."""

GATEWAY: Final = (
    MetricSpec("cgk_gateway_requests_total", "counter", ("method", "route", "status"),
               "Requests that this gateway answered, by the route of the HTTP API and the status of the answer."),
    MetricSpec("cgk_gateway_streams", "gauge", ("about",), "Streams that are open. about: run or tenant."),
)  # fmt: skip
"""Served by `cgk-tasks gateway` with CGK_GATEWAY_METRICS."""

METRICS: Final = WORKER + EXPORTER + GATEWAY
BY_NAME: Final = {spec.name: spec for spec in METRICS}


def page_table(specs: tuple[MetricSpec, ...]) -> str:
    """The metrics as a table of the reference page."""
    rows = [
        f"| `{spec.name}` | {spec.kind} | {', '.join(f'`{label}`' for label in spec.labels)} | {spec.help} |"
        for spec in specs
    ]
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])
