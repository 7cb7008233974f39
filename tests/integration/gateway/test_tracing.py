"""The trace of a call, from its headers to its job, and the span of its request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from contract.store import Store
from contract.trace import TraceContext, parse
from gateway.tracing import route_of
from tests.integration.gateway.builders import FakeWorker, publish
from tests.integration.gateway.test_server import BODY, INVOKE, JSON, Gateway, running_gateway

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Collector:
    """Takes spans by OTLP over HTTP, and says when it has them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.more = threading.Condition()

    def take(self, body: bytes) -> None:
        """One export."""
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            (_attributes(resource.resource)["service.name"], span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self.more:
            self.spans += found
            self.more.notify_all()

    def wait_for(self, is_there: Callable[[list[tuple[str, Any]]], bool]) -> list[tuple[str, Any]]:
        """The spans, once they are enough."""
        with self.more:
            assert self.more.wait_for(lambda: is_there(self.spans), 15), self.spans
            return [*self.spans]


def _attributes(record: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in record.attributes}


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector and its endpoint."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests read what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def submit(client: FlaskClient, **headers: str) -> tuple[str, str | None]:
    """A job that waits: its id, and what the answer says of the trace."""
    answer = client.post(INVOKE, data=BODY, headers=JSON | {"Prefer": "respond-async"} | headers)
    assert answer.status_code == 202
    return answer.json["job"], answer.headers.get("traceresponse")


def test_a_job_goes_on_with_the_trace_of_its_call(client: FlaskClient, store: Store) -> None:
    """Below the gateway's own span, which the answer names."""
    publish(store)
    job, answer = submit(client, traceparent=PARENT, tracestate="a=1, b=2")
    origin = store.jobs.get(job).origin
    own = parse(origin.traceparent, origin.tracestate)
    assert own is not None
    assert (own.trace_id, own.flags, own.state) == (TRACE, 1, "a=1,b=2")
    assert own.span_id != SPAN
    assert answer == origin.traceparent


@pytest.mark.parametrize(
    "header", ["", "garbage", f"{PARENT},{PARENT}", PARENT.replace("00-", "ff-", 1)]
)
def test_a_broken_traceparent_begins_a_new_trace(
    client: FlaskClient, store: Store, header: str
) -> None:
    """Without the tracestate, and without an error."""
    publish(store)
    job, answer = submit(client, traceparent=header, tracestate="a=1")
    origin = store.jobs.get(job).origin
    own = parse(origin.traceparent)
    assert isinstance(own, TraceContext)
    assert (own.trace_id == TRACE, origin.tracestate, answer) == (False, "", origin.traceparent)


def test_a_call_without_a_trace_has_none(client: FlaskClient, store: Store) -> None:
    """And a refusal by the gateway names its span as an answer does."""
    publish(store)
    job, answer = submit(client)
    assert (store.jobs.get(job).origin.traceparent, answer) == ("", None)
    gone = client.post("/v1/functions/gone/invoke", headers={"traceparent": PARENT})
    assert parse(gone.headers["traceresponse"]) is not None


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v1/functions", "/v1/functions"),
        ("GET", "/v1/functions/echo@3", "/v1/functions/{name}"),
        ("POST", "/v1/functions/echo/invoke", "/v1/functions/{name}/invoke"),
        ("POST", "/v1/functions/e/aliases/prod/rollback",
         "/v1/functions/{name}/aliases/{alias}/rollback"),
        ("GET", "/v1/jobs/abc/events", "/v1/jobs/{job_id}/events"),
        ("POST", "/v2/models/echo/infer", "/v2/models/{model}/infer"),
        ("POST", "/2015-03-31/functions/echo/invocations",
         "/2015-03-31/functions/{name}/invocations"),
        ("GET", "/v1/functions/echo/made-up", ""),
        ("GET", "/v1/functions/echo/invoke", ""),
        ("GET", "/v1/made-up", ""),
        ("BREW", "/v1/functions", ""),
        ("GET", "", ""),
    ],
)  # fmt: skip
def test_routes_are_few(app: Flask, method: str, path: str, route: str) -> None:
    """Whatever is asked for."""
    assert route_of(method, path, app.url_map.bind("")) == route


def test_requests_are_exported_with_their_trace(
    redis_url: str, store: Store, tmp_path: Path, worker: FakeWorker
) -> None:
    """Twice the header is none; a drain sends what waits."""
    publish(store)
    with collecting() as (collector, endpoint):
        # so long that only the drain sends them
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with running_gateway(redis_url, tmp_path, **settings) as gateway:
            named = _call(gateway, PARENT)
            unsampled = _call(gateway, PARENT.replace("-01", "-00"))
            begun = _call(gateway, None)
            twice = _call(gateway, PARENT, PARENT)
            gateway.process.terminate()
            assert gateway.process.wait(15) == 0
        spans = {span.span_id.hex(): span for service, span in collector.spans}
        assert {service for service, _ in collector.spans} == {"fusebox-gateway"}
    assert {named.span_id, begun.span_id, twice.span_id} == set(spans)
    assert (unsampled.trace_id, unsampled.is_sampled) == (TRACE, False)
    span = spans[named.span_id]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.name == "POST /v1/functions/{name}/invoke"
    assert span.start_time_unix_nano < span.end_time_unix_nano
    said = _attributes(span)
    assert said["http.response.status_code"] == 200
    assert store.jobs.get(said["fusebox.job"]).origin.traceparent == named.traceparent
    assert twice.trace_id != TRACE
    assert spans[begun.span_id].parent_span_id == b""


def _call(gateway: Gateway, *parents: str | None) -> TraceContext:
    """Call echo; the context that the answer names."""
    with gateway.connect() as client:
        client.putrequest("POST", INVOKE)
        for name, value in (JSON | {"Content-Length": str(len(BODY))}).items():
            client.putheader(name, value)
        for parent in parents:
            if parent is not None:
                client.putheader("traceparent", parent)
        client.endheaders(BODY)
        answer = client.getresponse()
        assert answer.status == 200
        assert orjson.loads(answer.read())
        found = parse(answer.headers["traceresponse"])
        assert found is not None
        return found
