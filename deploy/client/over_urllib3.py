"""HTTP for threads: the one module that speaks to urllib3, which takes 40 ms to import."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from deploy.client.request import CONNECT_S, MAX_CONNECTIONS, Lost, Reply, Request
from deploy.errors import Unreachable

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

READ_BYTES = 65536

T = TypeVar("T")


class Transport:
    """Connections to one gateway, for as many threads as like."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._prefix = urlsplit(url).path
        self._headers = dict(headers)
        self._pool = urllib3.connection_from_url(url, maxsize=MAX_CONNECTIONS)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def send(self, request: Request) -> Reply | Lost:
        """What comes of a request; raises Unreachable for a certificate that is not good."""
        return self._tried(lambda: _reply(self._send(request), is_whole=True))

    def stream(self, request: Request) -> Generator[Reply | Lost | bytes, None, None]:
        """The head of an answer, then its body as it comes; ends with Lost where that breaks off.

        An answer other than 200 has its body with it.
        """
        opened: list[BaseHTTPResponse] = []

        def begin() -> Reply:
            opened.append(self._send(request, is_whole=False))
            return _reply(opened[0], is_whole=opened[0].status != 200)

        def read() -> bytes:
            return opened[0].read1(READ_BYTES)

        try:
            head = self._tried(begin)
            yield head
            while isinstance(head, Reply) and head.status == 200:
                part = self._tried(read)
                if part:
                    yield part
                if not part or isinstance(part, Lost):
                    return
        finally:
            for response in opened:
                response.close()

    def _send(self, request: Request, is_whole: bool = True) -> BaseHTTPResponse:
        timeout = urllib3.Timeout(connect=CONNECT_S, read=request.patience_s)
        headers = self._headers | request.fields
        with _opened(request.body, headers) as body:
            return self._pool.urlopen(
                request.method,
                self._prefix + request.target,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=timeout,
                preload_content=is_whole,
            )

    def _tried(self, act: Callable[[], T]) -> T | Lost:
        try:
            return act()
        except (NewConnectionError, ConnectTimeoutError) as error:
            return Lost.unsent(self._url, error)
        except ReadTimeoutError as error:
            return Lost.late(self._url, error)
        except SSLError as error:
            raise Unreachable(f"{self._url}: {error}", url=self._url) from error
        except HTTPError as error:
            return Lost.broken(self._url, error)


@contextmanager
def _opened(body: bytes | Path, headers: dict[str, str]) -> Iterator[bytes | IO[bytes] | None]:
    """The body as it is to be sent; a file's length is announced."""
    if isinstance(body, bytes):
        yield body or None
        return
    headers["Content-Length"] = str(body.stat().st_size)
    with body.open("rb") as file:
        yield file


def _reply(response: BaseHTTPResponse, is_whole: bool) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    data = response.data if is_whole else b""
    return Reply(response.status, response.reason or "", headers, data)
