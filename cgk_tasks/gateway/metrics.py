"""A gateway's own metrics: what this process has answered, and how many streams are open. Counted always, since that
costs less than to ask whether to; served by `cgk-tasks gateway` where CGK_GATEWAY_METRICS is set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.config.addresses import host_and_port
from cgk_tasks.extras import require_extra

log = structlog.get_logger("cgk_tasks.metrics")

REQUESTS: Final[Counter[tuple[str, str, str]]] = Counter()
"""By method, route and status."""
STREAMS: Final[Counter[str]] = Counter(run=0, tenant=0)
"""Open now, by what they are about."""


def count_answer(method: str, route: str, status: int) -> None:
    REQUESTS[method, route, str(status)] += 1


@contextmanager
def open_stream(about: str) -> Iterator[None]:
    """A stream that is open for the length of the block."""
    STREAMS[about] += 1
    try:
        yield
    finally:
        STREAMS[about] -= 1


def serve_metrics() -> Any:
    """Serve them in a thread; returns its server, or None if that is not wanted, or not possible.

    Raises ConfigurationError for a CGK_GATEWAY_METRICS that is no address, or without prometheus-client.
    """
    wanted = get_settings().gateway_metrics
    if not wanted:
        return None
    host, port = host_and_port("CGK_GATEWAY_METRICS", wanted)
    require_extra("worker", "CGK_GATEWAY_METRICS")
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_collector())
    try:
        server, _thread = start_http_server(port, host, registry)
    except OSError as exc:
        log.error("metrics_not_served", address=wanted, reason=str(exc))  # noqa: TRY400 - requests matter more
        return None
    log.info("metrics_served", address=wanted)
    return server


def _collector() -> Any:
    from prometheus_client.registry import Collector

    from cgk_tasks.monitoring.metric_names import BY_NAME

    class GatewayCollector(Collector):
        def collect(self) -> Iterator[Any]:
            requests: Any = BY_NAME["cgk_gateway_requests_total"].family()
            for labels, number in sorted(REQUESTS.items()):
                requests.add_metric(labels, number)
            yield requests
            streams: Any = BY_NAME["cgk_gateway_streams"].family()
            for about, number in sorted(STREAMS.items()):
                streams.add_metric([about], number)
            yield streams

    return GatewayCollector()
