"""OpenTelemetry: one trace from the sender's span through a run, its attempts and its children.

The trace context is kept with the run in PostgreSQL: a header of the message would be gone after the first retry. Off,
and nothing of OpenTelemetry imported, unless CGK_TRACING is on.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.door import observe
from cgk_tasks.sql.statements import Statement

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

    from cgk_tasks.runs.store import Claimed

TRACEPARENT: Final = "traceparent"
TRACE: Final = "trace"
"""Where the entry of an attempt's error has the attempt's trace context."""

_NAME: Final = "cgk_tasks"
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


def is_on() -> bool:
    """Whether CGK_TRACING is on. Raises ConfigurationError where it is, and OpenTelemetry is not installed."""
    if not get_settings().tracing:
        return False
    _require()
    return True


@cache
def _require() -> None:
    if any(find_spec(name) is None for name in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter")):
        raise ConfigurationError(
            "CGK_TRACING is on, but OpenTelemetry is not installed.",
            hint="Install it with: pip install 'cgk-tasks[otel]'",
        )


def sent(event: str, tenant_id: str, run_id: str) -> str | None:
    """The trace context to keep with a new run: of the span that is open here, else of a new one that says it was sent.

    None while tracing is off, and in a process that has set up no tracing.
    """
    if not is_on():
        return None
    from opentelemetry import trace

    observe(_statement_ended)
    here = trace.get_current_span().get_span_context()
    if here.is_valid:
        return _text(here)
    tracer = trace.get_tracer(_NAME)
    attributes = _attributes(event, tenant_id, run_id)
    with tracer.start_as_current_span(f"send {event}", kind=trace.SpanKind.PRODUCER, attributes=attributes) as span:
        made = span.get_span_context()
    return _text(made) if made.is_valid else None


def here() -> str | None:
    """The trace context of the span that is open here. None while tracing is off, and where none is. Never raises."""
    if "opentelemetry.trace" not in sys.modules or not get_settings().tracing:
        return None
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    return _text(found) if found.is_valid else None


def received(headers: Mapping[str, Any] | None) -> str | None:
    """The trace context in the headers of another producer's message."""
    given = (headers or {}).get(TRACEPARENT) if is_on() else None
    return given if isinstance(given, str) and _parent(given) is not None else None


def attempt(run: Claimed) -> AbstractContextManager[None]:
    """The span of one attempt, open inside the block: what the job does and sends belongs to it."""
    return _attempt(run) if is_on() else _NOTHING


@contextmanager
def _attempt(run: Claimed) -> Iterator[None]:
    import structlog
    from opentelemetry import trace

    tracer = _worker_tracer()
    observe(_statement_ended)
    attributes = _attributes(run.event, run.tenant_id, run.id) | {
        "cgk.attempt": run.attempt - run.deaths,
        "messaging.destination.name": run.queue,
    }
    context = (_parent(run.trace) if run.trace else None) or _of_its_own(run)
    with (
        tracer.start_as_current_span(
            f"run {run.event}", context, kind=trace.SpanKind.CONSUMER, attributes=attributes, record_exception=False
        ) as span,
        structlog.contextvars.bound_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}"),
    ):
        yield


def ended(job: str, kind: str, error: BaseException | None, code: str | None) -> None:
    """Note on the span of this attempt how it ended. The error's text stays out of it: it may quote the payload."""
    if not is_on():
        return
    from opentelemetry import trace

    span: Span = trace.get_current_span()
    span.set_attribute("cgk.job", job)
    span.set_attribute("cgk.outcome", kind)
    if kind in {"failed", "retry"}:
        span.set_attribute("error.type", type(error).__qualname__)
        if code is not None:
            span.set_attribute("cgk.error_code", code)
        span.set_status(trace.StatusCode.ERROR, code)


def _statement_ended(statement: Statement, seconds: float, error: BaseException | None) -> None:
    """A span for a statement of SQL below the one that is open here, if one is. Never with its parameters."""
    if not get_settings().tracing:
        return
    from opentelemetry import trace

    if not trace.get_current_span().is_recording():
        return
    now = time.time_ns()
    span = trace.get_tracer(_NAME).start_span(
        statement.label,
        kind=trace.SpanKind.CLIENT,
        attributes={"db.system": "postgresql", "db.operation.name": statement.label},
        start_time=now - int(seconds * 1e9),
    )
    if error is not None:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(trace.StatusCode.ERROR)
    span.end(now)


def _attributes(event: str, tenant_id: str, run_id: str) -> dict[str, str | int]:
    return {"messaging.system": _NAME, "cgk.event": event, "cgk.tenant": tenant_id, "cgk.run": run_id}


def _text(context: SpanContext) -> str:
    """As W3C's traceparent."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _parent(traceparent: str) -> Context | None:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent})
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _of_its_own(run: Claimed) -> Context:
    """A context that follows from the run's id, so that all attempts of a run that nobody traced share a trace."""
    from opentelemetry import context, trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Decision

    digest = hashlib.sha256(run.id.encode()).digest()
    trace_id, span_id = int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1
    provider = trace.get_tracer_provider()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    if isinstance(provider, TracerProvider):  # sampled as any other trace that begins here
        decided = provider.sampler.should_sample(None, trace_id, f"run {run.event}")
        is_sampled = decided.decision is Decision.RECORD_AND_SAMPLE
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled else 0)
    parent = trace.NonRecordingSpan(trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))
    return trace.set_span_in_context(parent, context.Context())


@cache
def _worker_tracer() -> Tracer:
    """The tracer of a worker's process. Unless the application has set up tracing, spans go out by OTLP over HTTP."""
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        _export()
    return trace.get_tracer(_NAME, version("cgk-tasks"))


def _export() -> None:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over our name.
    provider = TracerProvider(
        resource=Resource.create({"service.name": "cgk-tasks-worker"}).merge(OTELResourceDetector().detect())
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush(timeout_seconds: float = 5.0) -> None:
    """Send the spans that wait in this process; before it ends."""
    if not get_settings().tracing:
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush(int(timeout_seconds * 1000))
