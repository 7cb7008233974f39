"""A client's HTTP/1.1 connection: gevent's pywsgi handler, stricter and with fewer system calls.

Per request, pywsgi parses headers with the `email` package (80 µs of about 700), sends headers and
body separately, and has no limit on idle connections; the three are replaced here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from gevent import Timeout, get_hub, getcurrent, spawn
from gevent.pywsgi import WSGIHandler
from werkzeug.exceptions import RequestURITooLarge

from contract.errors import RequestError, RequestTimeout
from gateway.answer import STATUS_LINES
from gateway.client_input import ClientInput
from gateway.problems import translate

MAX_LINE_BYTES = 8190
MAX_FIELDS = 100
# Where the environment of a request holds its connection.
CONNECTION = "fusebox.connection"
_READABLE = 1  # libev's EV_READ
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rf"{_TOKEN.pattern} [!-~\x80-\xff]+ HTTP/1\.[01]\r\n")
# what decides where a request ends is said once, or two readers may disagree
_ONCE = frozenset({"content-length", "transfer-encoding", "host"})


class Headers:
    """The header fields of a request, in the shape that pywsgi reads them."""

    status = ""

    def __init__(self, rfile: BinaryIO) -> None:
        self._values: dict[str, str] = {}
        # lines as they came, which pywsgi splits again
        self.headers: list[str] = []
        for name, value, line in _fields(rfile):
            if name in self._values and name in _ONCE:
                raise ValueError(f"{name} twice")
            self._values.setdefault(name, value)
            self.headers.append(line)
        coding = self._values.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or "content-length" in self._values):
            raise ValueError("transfer-encoding other than chunked, or with a content-length")
        length = self._values.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise ValueError("content-length that is not a number")

    @property
    def typeheader(self) -> str | None:
        """The content type."""
        return self._values.get("content-type")

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a field."""
        return self._values.get(name.lower(), default)

    getheader = get

    def __delitem__(self, name: str) -> None:
        del self._values[name]


def _fields(rfile: BinaryIO) -> Iterator[tuple[str, str, str]]:
    """Name in lower case, value and line of every field; raises ValueError."""
    for _ in range(MAX_FIELDS + 1):
        data = rfile.readline(MAX_LINE_BYTES + 1)
        if data == b"\r\n":
            return
        if not data.endswith(b"\r\n"):
            raise ValueError("a header line that is too long or does not end in CR LF")
        line = data.decode("latin-1")
        name, _, value = line.partition(":")
        value = value.strip()
        # a folded line has a space where its name would be
        if not _TOKEN.fullmatch(name) or "\r" in value or "\0" in value:
            raise ValueError("a header line that is not `name: value`")
        yield name.lower(), value, line
    raise ValueError(f"more than {MAX_FIELDS} header lines")


class IdleEnd(Exception):
    """Ends a connection that waits for its next request."""


class Owner(Protocol):
    """The worker process, as its connections know it."""

    alive: bool
    idle: set[Connection]
    client_timeout_s: float


class Connection(WSGIHandler):  # type: ignore[misc]  # gevent is untyped
    """One connection; closes after the request at hand when its worker drains."""

    def __init__(self, *args: Any, worker: Owner) -> None:
        super().__init__(*args)
        self._worker = worker
        self._greenlet = getcurrent()

    def end_idle(self) -> None:
        """End it, unless a request has come; runs in the hub, as timers do."""
        if self in self._worker.idle:
            self._greenlet.throw(IdleEnd)

    def read_requestline(self) -> str:
        """The first line of the next request, or nothing at the end."""
        self._worker.idle.add(self)
        try:
            line: str = super().read_requestline()
        except IdleEnd:
            line = ""
        finally:
            self._worker.idle.discard(self)
        return line

    def read_request(self, raw_requestline: str) -> bool:
        """The request line and the header fields; raises ValueError and TimeoutError."""
        if not _REQUEST_LINE.fullmatch(raw_requestline):
            raise ValueError(f"a request line {raw_requestline[:100]!r}")
        limit_s = self._worker.client_timeout_s
        with Timeout(limit_s, TimeoutError(f"the header fields took more than {limit_s:g} s")):
            is_read: bool = super().read_request(raw_requestline)
        coding = self.headers.get("transfer-encoding")
        if self.request_version == "HTTP/1.1" and self.headers.get("host") is None:
            raise ValueError("no host")
        if self.request_version == "HTTP/1.0" and coding is not None:
            raise ValueError("transfer-encoding in HTTP/1.0")
        return is_read

    def get_environ(self) -> dict[str, Any]:
        """What the application gets to see, its input within limits."""
        environ: dict[str, Any] = super().get_environ()
        given = self.wsgi_input
        self.wsgi_input: ClientInput = ClientInput(
            self.rfile, given.content_length, given.socket, given.chunked_input
        )
        self.wsgi_input.begin(self._worker.client_timeout_s)
        # for upgrades, of which there are none here, pywsgi hands out the bare connection
        environ["wsgi.input"] = self.wsgi_input
        environ["wsgi.input_terminated"] = True
        environ[CONNECTION] = self
        return environ

    def handle_one_request(self) -> object:
        """Answer one request; true where another may follow, bytes where pywsgi refused it."""
        result = super().handle_one_request()
        if isinstance(result, tuple) and result[0] == "414":
            return self._refusal(RequestURITooLarge(f"request: more than {MAX_LINE_BYTES} bytes"))
        return None if result is True and self.wsgi_input.is_broken else result

    def _handle_client_error(self, error: Exception) -> tuple[str, bytes]:
        """The answer to what is not HTTP."""
        if isinstance(error, TimeoutError):
            return self._refusal(RequestTimeout(f"request: {error}"))
        return self._refusal(RequestError(f"request: {error}"))

    def _refusal(self, error: Exception) -> tuple[str, bytes]:
        answer = translate(error, "")
        fields = [*answer.wsgi_headers, ("Connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        status = STATUS_LINES[answer.status]
        return status, f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + answer.body

    @contextmanager
    def watch(self, on_hang_up: Callable[[], None]) -> Iterator[None]:
        """Call this, in a greenlet of its own, should the client close its side meanwhile.

        A client that has sent its next request already is not watched any more: what it closes
        behind that cannot be seen before it is read.
        """
        peer = self.socket
        watcher = get_hub().loop.io(peer.fileno(), _READABLE)

        def look() -> None:
            watcher.stop()
            if _has_ended(peer):
                spawn(on_hang_up)

        watcher.start(look)
        try:
            yield
        finally:
            watcher.stop()
            watcher.close()

    def MessageClass(self, rfile: BinaryIO, *_: object) -> Headers:  # noqa: N802  # pywsgi's name
        """The header fields."""
        return Headers(rfile)

    def finalize_headers(self) -> None:
        """Say that the connection closes, which pywsgi says to HTTP/1.0 clients only."""
        super().finalize_headers()
        if not self._worker.alive or self.wsgi_input.must_close:
            # looked at as late as may be: the drain may begin while a request is under way
            self.close_connection = True
        if self.close_connection:
            self.response_headers.append((b"Connection", b"close"))

    def _write_with_headers(self, data: bytes) -> None:
        """Headers and body in one call."""
        self.headers_sent = True
        self.finalize_headers()
        head = b"".join(b"%b: %b\r\n" % field for field in self.response_headers)
        head = b"HTTP/1.1 %b\r\n%b\r\n" % (self.status, head)
        if self.response_use_chunked or self.command == "HEAD":
            self._sendall(head)
            self._write(data)
        else:
            self._sendall(head + data)

    def log_request(self) -> None:
        """Write nothing: there is no access log."""


def _has_ended(peer: Any) -> bool:
    """Whether the next thing to read from a readable gevent socket is its end."""
    try:
        # the plain socket beneath: gevent's would let the hub wait
        return bool(peer._sock.recv(1, socket.MSG_PEEK) == b"")
    except BlockingIOError:
        return False
    except OSError:
        return True


def connection_of(environ: Mapping[str, Any]) -> Connection | None:
    """The connection that a request came over; None where another server took it."""
    found = environ.get(CONNECTION)
    assert found is None or isinstance(found, Connection)
    return found
