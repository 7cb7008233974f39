"""HTTP for tasks: the one module that speaks to aiohttp."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import IO

import aiohttp
from yarl import URL

from deploy.client.request import CONNECT_S, MAX_CONNECTIONS, Lost, Reply, Request
from deploy.errors import Unreachable

READ_BYTES = 65536
# aiohttp warns of larger bytes, which it cannot send in parts
BYTES_AT_ONCE = 2**20


class _Broken(Exception):
    """A connection that ended under a request."""


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp repeats PUT and DELETE by itself; what may be sent twice is ours to say."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(str(error)) from error


class Transport:
    """Connections to one gateway, within one event loop."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_once,),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(self, request: Request) -> Reply | Lost:
        """What comes of a request; raises Unreachable for a certificate that is not good."""
        try:
            async with self._sent(request) as response:
                return _reply(response, await response.read())
        except (aiohttp.ClientError, _Broken, TimeoutError) as error:
            return _lost(self._url, error)

    async def stream(self, request: Request) -> AsyncGenerator[Reply | Lost | bytes, None]:
        """The head of an answer, then its body as it comes; ends with Lost where that breaks off.

        An answer other than 200 has its body with it.
        """
        try:
            async with self._sent(request) as response:
                if response.status != 200:
                    yield _reply(response, await response.read())
                    return
                yield _reply(response, b"")
                async for part in response.content.iter_any():
                    yield part
        except (aiohttp.ClientError, _Broken, TimeoutError) as error:
            yield _lost(self._url, error)

    @asynccontextmanager
    async def _sent(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_S, sock_read=request.patience_s
        )
        fields = request.fields
        with _opened(request.body) as body:
            async with self._session.request(
                request.method,
                URL(self._url + request.target, encoded=True),
                data=body,
                headers=fields,
                allow_redirects=False,
                timeout=timeout,
                skip_auto_headers=() if "Content-Type" in fields else ("Content-Type",),
            ) as response:
                yield response


def _opened(body: bytes | Path) -> AbstractContextManager[bytes | IO[bytes] | None]:
    if isinstance(body, Path):
        return body.open("rb")
    return nullcontext((body if len(body) <= BYTES_AT_ONCE else io.BytesIO(body)) or None)


def _reply(response: aiohttp.ClientResponse, data: bytes) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status, response.reason or "", headers, data)


def _lost(url: str, error: Exception) -> Lost:
    if isinstance(error, aiohttp.ClientSSLError):
        raise Unreachable(f"{url}: {error}", url=url) from error
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Lost.unsent(url, error)
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Lost.late(url, error)
    return Lost.broken(url, error)
