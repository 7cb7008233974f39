"""The gateway's part of a trace: whose child a call is, and a span for each request.

A WSGI middleware around everything else, the guard too. Without `traceparent` and without somewhere
to export to, a request passes it by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter

from contract.trace import TraceContext, new_span_id, new_trace, parse
from contract.tracing import SERVER, Span, Tracing
from gateway.access import is_open
from gateway.answer import Header
from gateway.context import Gateway
from gateway.job_answers import JOB_HEADER
from gateway.trace_context import CURRENT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# https://w3c.github.io/trace-context: the answer names the span that the request was
ANSWER_HEADER = "traceresponse"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# `<name>` and `<path:name>` of a rule
_PART = re.compile("<(?:[^:<>]+:)?([^<>]+)>")
# asked for all the time, and of no call
_UNTRACED = frozenset({"/metrics"})


def traced(gateway: Gateway, app: WSGIApplication, routes: Map) -> WSGIApplication:
    """The application, its calls the children of their requests' spans."""
    tracing = gateway.tracing
    adapter = routes.bind("")

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        traceparent: str | None = environ.get("HTTP_TRACEPARENT")
        if traceparent is None and tracing is None:
            return app(environ, start_response)
        parent = None
        if traceparent is not None:
            parent = parse(traceparent, environ.get("HTTP_TRACESTATE", ""))
        request = _Request(tracing, environ, parent, adapter)
        token = CURRENT.set(request.context)
        try:
            body = app(environ, request.answering(start_response))
        except BaseException:
            request.end()
            raise
        finally:
            CURRENT.reset(token)
        return body if request.span is None else _Ending(body, request.end)

    return call


def route_of(method: str, path: str, routes: MapAdapter) -> str:
    """The route of a request, without what differs from call to call; "" where there is none."""
    try:
        rule, _ = routes.match(path, method, return_rule=True)
    except HTTPException:
        return ""
    return _PART.sub(r"{\1}", rule.rule)


class _Request:
    """One request and its span, if it has one."""

    def __init__(
        self,
        tracing: Tracing | None,
        environ: WSGIEnvironment,
        parent: TraceContext | None,
        routes: MapAdapter,
    ) -> None:
        path: str = environ["PATH_INFO"]
        self.span: Span | None = None
        if tracing is not None and not is_open(path) and path not in _UNTRACED:
            self.span = _begin(tracing, environ["REQUEST_METHOD"], path, parent, routes)
            self.context = self.span.context
        else:
            self.context = parent.child(new_span_id()) if parent else new_trace()

    def answering(self, start_response: StartResponse) -> StartResponse:
        """`start_response` with the header that names the span."""

        def start(status: str, headers: list[Header], *more: Any) -> Callable[[bytes], object]:
            if self.span is not None:
                _note_answer(self.span, status, headers)
            return start_response(
                status, [*headers, (ANSWER_HEADER, self.context.traceparent)], *more
            )

        return start

    def end(self) -> None:
        """The answer was sent, or nobody takes it any more."""
        if self.span is not None:
            self.span.end()


def _begin(
    tracing: Tracing, method: str, path: str, parent: TraceContext | None, routes: MapAdapter
) -> Span:
    method = method if method in _METHODS else "_OTHER"
    # WSGI has bytes as latin-1
    route = route_of(method, path.encode("latin-1").decode(errors="replace"), routes)
    attributes = {"http.request.method": method, "url.path": path[:200]}
    if route:
        attributes["http.route"] = route
    return tracing.start(f"{method} {route}".rstrip(), parent, SERVER, attributes=attributes)


def _note_answer(span: Span, status: str, headers: list[Header]) -> None:
    code = int(status[:3])
    span.say("http.response.status_code", code)
    for name, value in headers:
        if name == JOB_HEADER:
            span.say("fusebox.job", value)
    if code >= 500:
        span.fail(status)


class _Ending:
    """A body at whose end something is to be done."""

    def __init__(self, body: Iterable[bytes], at_end: Callable[[], None]) -> None:
        self._body = body
        self._at_end = at_end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """As WSGI asks for, however far it was read."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._at_end()
