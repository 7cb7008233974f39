"""Jobs that end, and those who are told of it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np

from contract.delivery import Delivery, State
from contract.errors import HandlerFailed
from contract.function import Function
from contract.job import JobId, Outcome, Status
from contract.origin import Origin
from contract.settings import Settings
from contract.store import Store, open_store
from contract.store.queue import Settlement
from contract.tensors import encode_tensor, pack_tensors
from gateway.context import Gateway
from gateway.delivery.reaching import Resolver
from gateway.delivery.service import Service
from tests.integration.claiming import claim_group
from tests.integration.store.builders import LEADER, a_submission, lead

# a name that the resolvers of tests know
LOCAL = "receiver.test"
WAIT_S = 10.0
ROW = np.arange(4, dtype=np.float32).reshape(1, 4)
OUTPUTS = {"output": encode_tensor(ROW)}
SUCCEEDED = Outcome(Status.SUCCEEDED, timings_ms={"total": 2.0}, outputs=OUTPUTS)
FAILED = Outcome.of_error(HandlerFailed("ValueError: no"))

SETTINGS = Settings(
    webhook_allow=("127.0.0.1", LOCAL),
    webhook_timeout_s=5.0,
    delivery_backoff_s=0.01,
    delivery_attempts=3,
    dlq_letters=5,
    dlq_bytes=100_000,
)

Resolve = Callable[[str, int], Awaitable[list[str]]]


def accept(store: Store, function: Function, origin: Origin, payload: bytes | None = None) -> JobId:
    """A job that waits."""
    packed = pack_tensors({"x": ROW}) if payload is None else payload
    submission = a_submission(function)._replace(origin=origin, payload=packed)
    assert store.jobs.submit([submission], 100, 100) == [None]
    return submission.spec.id


def end(store: Store, function: Function, origin: Origin, outcome: Outcome = SUCCEEDED) -> JobId:
    """A job that has ended so."""
    lead(store)
    job = accept(store, function, origin)
    claims = claim_group(store.queue, LEADER, "w1", f"g{job}", time.time() + 60, [job])
    assert claims is not None
    settled = [Settlement(claim, outcome, 0, 0, 1) for claim in claims]
    assert store.queue.settle(settled, {}, f"g{job}", None) == [True]
    return job


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it gives something; the store has nothing to wait on here."""
    give_up_at_s = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at_s, "it has not come to that"
        time.sleep(0.005)
    return found


def log_of(store: Store, job: JobId) -> list[Delivery]:
    """The delivery log of a job, once nothing of it waits any more."""

    def over() -> list[Delivery]:
        log = store.deliveries.of(job)
        return log if log and all(d.state is not State.WAITING for d in log) else []

    found: list[Delivery] = until(over)
    return found


class Request(NamedTuple):
    """What a receiver was sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers with one status after another, the last for ever."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, dict[str, str]]] = [(204, {})]
        # called instead of an answer
        self.act: Callable[[BaseHTTPRequestHandler], None] | None = None
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                receiver._handle(self)

            do_POST = do_OPTIONS = do_GET = handle_any  # noqa: N815  # http.server names them

            def log_message(self, *_args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def posts(self) -> list[Request]:
        """Requests but for handshakes."""
        return [request for request in self.requests if request.method == "POST"]

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Want TLS of every connection from now on; the handshake is the connection's thread's."""
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", "0"))
        body = handler.rfile.read(length)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.requests.append(Request(handler.command, handler.path, headers, body))
            status, fields = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if self.act is not None:
            self.act(handler)
            return
        handler.send_response(status)
        for name, value in ({"Content-Length": "0"} | fields).items():
            handler.send_header(name, value)
        handler.end_headers()


class Running:
    """The service in a thread, as the process that leads runs it."""

    def __init__(self, gateway: Gateway, resolve: Resolve | None = None) -> None:
        self._stop = threading.Event()
        self._resolver = Resolver()
        service = Service(gateway, self._stop, resolve or self._resolver)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(service,))
        self._thread.start()

    def _run(self, service: Service) -> None:
        try:
            asyncio.run(service.serve())
        except BaseException as error:
            self.error = error
            raise

    def stop(self) -> None:
        """Stop it, and see that it ended by itself."""
        self._stop.set()
        self._thread.join(WAIT_S)
        self._resolver.close()
        assert not self._thread.is_alive()
        assert self.error is None


class Shared:
    """A service for many tests; between them it has nothing to do."""

    def __init__(self, redis_url: str) -> None:
        self._store = open_store(redis_url, result_ttl_s=60)
        self._gateway = Gateway.wire(SETTINGS, self._store)
        self._system = Resolver()
        self._resolve: Resolve = self._system
        self._running = Running(self._gateway, self._look_up)

    async def _look_up(self, host: str, port: int) -> list[str]:
        return await self._resolve(host, port)

    def begin(self, resolve: Resolve | None = None) -> None:
        """Resolve so from now on."""
        self._resolve = resolve or self._system

    def end(self) -> None:
        """Resolve as the system does; the service must be alive."""
        self.begin()
        assert self._running.error is None

    def close(self) -> None:
        """Stop it."""
        self._running.stop()
        self._system.close()
        self._store.close()
