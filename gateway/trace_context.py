"""The span that whatever this process does now is a child of."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace

from contract.origin import Origin
from contract.trace import TraceContext

CURRENT: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def traced_origin(origin: Origin) -> Origin:
    """The origin of a call that is made now, with its trace, unless it names one already."""
    context = CURRENT.get()
    if context is None or origin.traceparent:
        return origin
    return replace(origin, traceparent=context.traceparent, tracestate=context.state)
