"""Spans by OpenTelemetry, where an endpoint is set that takes them; else there is nothing here.

The library is imported by `open_tracing` alone: it takes long to import, and most platforms export
no spans. What is exported waits in a bounded queue and is sent by a thread of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

from contract.log import Log
from contract.settings import Settings
from contract.trace import RANDOM, SAMPLED, TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

log = Log("tracing")
# a process that ends does not wait longer for who takes its spans
CLOSE_S = 3.0
Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]
# what a span is on the way of a call
INTERNAL, SERVER, CONSUMER = "INTERNAL", "SERVER", "CONSUMER"


class Span:
    """One span that has begun; times are Unix seconds."""

    __slots__ = ("_span", "context")

    def __init__(self, span: OtelSpan, parent: TraceContext | None) -> None:
        self._span = span
        found = span.get_span_context()
        # whether the trace's id is random, only who made it knows
        flags = RANDOM if parent is None else parent.flags & RANDOM
        flags |= SAMPLED if found.trace_flags.sampled else 0
        state = parent.state if parent else ""
        # of this span: what follows is its child
        self.context = TraceContext(f"{found.trace_id:032x}", f"{found.span_id:016x}", flags, state)

    def say(self, name: str, value: Value) -> None:
        """Add an attribute."""
        self._span.set_attribute(name, value)

    def note(self, event: str, at_s: float) -> None:
        """Something that happened within it."""
        self._span.add_event(event, timestamp=_ns(at_s))

    def fail(self, about: str) -> None:
        """What it stands for failed."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, about))

    def end(self, at_s: float | None = None) -> None:
        """It is over, now or at this time, and will be exported."""
        self._span.end(None if at_s is None else _ns(at_s))


class Tracing:
    """Makes and exports the spans of one process."""

    def __init__(self, provider: TracerProvider, tracer: Tracer) -> None:
        self._provider = provider
        self._tracer = tracer

    def start(
        self,
        name: str,
        parent: TraceContext | None,
        kind: str = INTERNAL,
        start_s: float | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        """Begin a span below another, or a trace; parent or sampler say whether it is kept."""
        from opentelemetry.trace import SpanKind

        span = self._tracer.start_span(
            name,
            context=_otel_context(parent),
            kind=SpanKind[kind],
            attributes=attributes,
            start_time=None if start_s is None else _ns(start_s),
        )
        return Span(span, parent)

    def close(self) -> None:
        """Send what waits, for a while; nothing is exported any more."""
        # the library would wait for a collector that is away as long as for its retries
        sender = Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sender.start()
        sender.join(CLOSE_S)
        if sender.is_alive():
            log.warning("spans_not_sent", after_s=CLOSE_S)


def open_tracing(settings: Settings, service: str) -> Tracing | None:
    """Tracing to OTEL_EXPORTER_OTLP_ENDPOINT; None where that is not set.

    Starts a thread: to be called in the process that makes the spans, not before it forks.
    """
    if not settings.otlp_endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own: dict[str, Any] = {"service.name": service, "service.namespace": "fusebox"}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, provider.get_tracer("fusebox"))


def _otel_context(parent: TraceContext | None) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )

    if parent is None:
        return Context()
    found = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(parent.flags),
        trace_state=TraceState.from_header([parent.state]) if parent.state else None,
    )
    return set_span_in_context(NonRecordingSpan(found), Context())


def _ns(at_s: float) -> int:
    return int(at_s * 1e9)
