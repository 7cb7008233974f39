"""A server on a real socket that answers as told and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

JOB = "0123456789abcdef01234567"
SPEC = {"name": "x", "dtype": "float32", "shape": [None, 4]}
FUNCTION: dict[str, Any] = {
    "name": "echo",
    "version": 2,
    "versions": [1, 2],
    "tier": "device",
    "created_at": "2026-01-02T03:04:05.678Z",
    "digest": "d" * 64,
    "architecture": "a" * 64,
    "inputs": [SPEC],
    "outputs": [SPEC | {"name": "y"}],
    "parameters": 1234,
    "weight_bytes": 44_900_000,
    "activation_bytes": {"1": 64, "32": 2048},
    "operators_exported": 68,
    "operators": 48,
    "max_batch": 32,
    "is_batchable": True,
    "has_preprocess": True,
    "has_postprocess": False,
    "slo_ms": 50.0,
    "timeout_ms": 60_000.0,
    "keep_alive_s": None,
    "row_buckets": [],
    "is_eager": False,
    "execution": {
        "tiers": {"1": {"generated": 0.3, "compiled": 0.1}, "2": {}, "4": {"generated": 0.5}},
        "groups": {
            "echo@2 x1 + b@1 x2": {
                "strategy": "branches",
                "measured_ms": {"serial": 3.0, "branches": 2.0},
                "lanes": [["echo@2"], ["b@1"]],
            },
            "c@1 x1 + echo@2 x1": {"strategy": "serial", "measured_ms": {}, "lanes": []},
            "d@1 x1 + echo@2 x1": {
                "strategy": "serial",
                "measured_ms": {"serial": 3.0, "branches": 4.0},
                "lanes": [["echo@2"], ["d@1"]],
            },
        },
        "threads": 2,
        "row_ceiling": 8,
    },
}
TIMINGS = {"queue": 1.0, "swap": 0.0, "build": 0.0, "compute": 2.0, "hooks": 0.0, "total": 3.5}
ANSWER: dict[str, Any] = {
    "job": JOB,
    "function": "echo",
    "version": 2,
    "outputs": {"y": [[1.0, 2.0]]},
    "timings_ms": TIMINGS,
    "group": {"jobs": 4, "functions": 2},
}


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Reply = tuple[int, Any] | Callable[[Asked], tuple[int, Any]]


def job(status: str, **fields: Any) -> dict[str, Any]:
    """A job's record."""
    record = {
        "job": JOB,
        "function": "echo",
        "version": 2,
        "status": status,
        "created_at": "2026-01-02T03:04:05.678Z",
        "attempts": 1,
        "timings_ms": {},
    }
    return record | fields


def problem(status: int, code: str, detail: str, **members: Any) -> tuple[int, Any]:
    """A problem document, marked as one by its `type`."""
    return status, {"type": f"/docs#{code}", "code": code, "detail": detail, **members}


@dataclass
class FakeGateway:
    """Replies by method and path; what has none is 404."""

    replies: dict[tuple[str, str], Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def on(self, method: str, path: str, reply: Reply) -> None:
        """Answer this request from now on."""
        self.replies[method, path] = reply

    def answer(self, request: Request) -> Response:
        """The reply to a request, as a response."""
        asked = Asked(
            request.method,
            request.path,
            dict(request.args),
            {name.lower(): value for name, value in request.headers.items()},
            request.get_data(),
        )
        self.asked.append(asked)
        unknown = problem(404, "not_found", "There is nothing here.")
        reply = self.replies.get((asked.method, asked.path), unknown)
        status, record = reply(asked) if callable(reply) else reply
        if isinstance(record, Response):
            record.status_code = status
            return record
        if isinstance(record, bytes):
            return Response(record, status, content_type="text/html")
        is_problem = "type" in record
        kind = "application/problem+json" if is_problem else "application/json"
        return Response(json.dumps(record), status, content_type=kind)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        """Tests read what was asked, not the log."""


@contextmanager
def serving() -> Iterator[FakeGateway]:
    """A fake gateway on a port of its own."""
    fake = FakeGateway()

    def app(environ: Any, start_response: Any) -> Any:
        return fake.answer(Request(environ))(environ, start_response)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
