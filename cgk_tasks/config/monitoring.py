"""Settings: metrics, traces, alerts."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, field_validator

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import AlertKinds, Names
from cgk_tasks.config.trace_url import checked_trace_url


class MonitoringSettings(Concern):
    """Metrics, traces, alerts."""

    metrics_address: str = Field(
        default="",
        description="Address and port of a worker's own metrics, like 127.0.0.1:9809. Unset: it counts and "
        "serves none.",
    )
    metrics_port: NonNegativeInt = Field(
        default=0,
        le=65_535,
        description="The old spelling of the port in CGK_METRICS_ADDRESS, which is an address alone then.",
    )
    exporter: str = Field(default="127.0.0.1:9808", description="Address and port of `cgk-tasks metrics`.")
    metrics_top_tenants: NonNegativeInt = Field(
        default=20, description="So many tenants, those with the most open runs, have metrics of their own."
    )
    tracing: bool = Field(default=False, description="Trace runs with OpenTelemetry; needs the extra `otel`.")
    trace_url: str | None = Field(
        default=None,
        description="Where the dashboard's page of a run leads for its trace, like "
        "`https://jaeger.example/trace/{trace_id}`; also `{span_id}`, `{run_id}` and `{tenant_id}`.",
    )
    alerts: AlertKinds = Field(
        default=(),
        description="What is told with the event system.alert; separated by commas.",
    )
    alert_events: Names = Field(
        default=(),
        description="The critical events: failed runs of these are told by run_failed; separated by commas, * for all.",
    )
    alert_queue_age_seconds: PositiveFloat = Field(
        default=600.0, description="queue_age tells of a run that could run and has waited longer than this."
    )
    alert_window_seconds: PositiveFloat = Field(
        default=3600.0, description="The same alert is sent at most once in this time."
    )
    alert_interval_seconds: PositiveFloat = Field(default=15.0, description="How often the leading worker looks.")
    alert_tenant: str = Field(
        default="platform", description="The tenant that alerts are sent for; platform is no customer."
    )

    @field_validator("trace_url")
    @classmethod
    def _is_trace_url(cls, value: str | None) -> str | None:
        return checked_trace_url(value) if value else None
