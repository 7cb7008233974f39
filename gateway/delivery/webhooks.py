"""Webhooks: one attempt to tell one receiver, within a time, a size, and the addresses allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import yarl

from contract.destinations import Destination, Url, url_of
from contract.settings import Settings
from gateway.delivery.addresses import Allowed
from gateway.delivery.formats import Message
from gateway.delivery.handshake import Handshakes
from gateway.delivery.reaching import Refused, Resolve, addresses_of
from gateway.delivery.retry import GONE, Attempt, parse_retry_after
from gateway.delivery.signing import headers_of

# Nothing of an answer's body is used; so much is read, within so long, before the connection ends.
READ_BYTES = 16 * 1024
LINGER_S = 0.5
MAX_FIELD_BYTES = 8 * 1024
USER_AGENT = "Fusebox"

Secrets = Callable[[], Awaitable[Sequence[str]]]


class Webhooks:
    """Tells receivers; belongs to one event loop."""

    def __init__(self, settings: Settings, secrets: Secrets, resolve: Resolve) -> None:
        self._settings = settings
        self._secrets = secrets
        self._resolve = resolve
        self._allowed = Allowed(settings.webhook_allow)
        self._handshakes = Handshakes(settings.webhook_origin)
        self._session = aiohttp.ClientSession(
            # a connection per attempt: its address was checked for this one
            connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.webhook_timeout_s),
            auto_decompress=False,
            trust_env=False,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._session.close()

    async def send(
        self, destination: Destination, message: Message, message_id: str,
        trace: Mapping[str, str],
    ) -> Attempt:  # fmt: skip
        """One attempt; whatever goes wrong is in what it returns."""
        url = url_of(destination.target)
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_s) as limit:
                addresses = await addresses_of(url, self._allowed, self._resolve)
                if destination.is_asked or self._settings.webhook_handshake == "on":
                    unwanted = await self._ask(destination.target, url, addresses)
                    if unwanted is not None:
                        return unwanted
                headers = await self._headers(message, message_id) | dict(trace)
                async with self._request("POST", url, addresses, headers, message.body) as answer:
                    limit.reschedule(None)
                    await _linger(answer)
                    return _attempt(answer)
        except TimeoutError:
            return Attempt(error=f"no answer within {self._settings.webhook_timeout_s:g} s")
        except Refused as error:
            return Attempt(error=f"refused: {error}", is_lasting=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: what the receiver answers cannot be read
            return Attempt(error=f"{type(error).__name__}: {error}")

    async def _headers(self, message: Message, message_id: str) -> dict[str, str]:
        signed = headers_of(await self._secrets(), message_id, int(time.time()), message.body)
        return {"Content-Type": message.content_type, **dict(message.headers), **signed}

    async def _ask(self, target: str, url: Url, addresses: Sequence[str]) -> Attempt | None:
        """The handshake, unless it was made of late; None where the receiver may be told now."""
        now_s = time.monotonic()
        if not self._handshakes.is_known(target, now_s):
            headers = self._handshakes.headers()
            async with self._request("OPTIONS", url, addresses, headers) as answer:
                refusal = self._handshakes.note(target, answer.status, answer.headers, now_s)
                if refusal is not None:
                    return refusal
        return self._handshakes.turn(target, time.monotonic())

    @asynccontextmanager
    async def _request(
        self, method: str, url: Url, addresses: Sequence[str], headers: Mapping[str, str],
        body: bytes = b"",
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """Ask the first address that can be dialled: names are not looked up again."""
        host = f"[{url.host}]" if ":" in url.host else url.host
        path = url.path if url.path.startswith("/") else f"/{url.path}"
        is_usual = url.port == (443 if url.scheme == "https" else 80)
        sent = {"User-Agent": USER_AGENT, **headers}
        sent["Host"] = host if is_usual else f"{host}:{url.port}"
        options: dict[str, Any] = {"headers": sent, "allow_redirects": False, "data": body or None}
        if url.scheme == "https":
            # the certificate is that of the name, whatever address is dialled
            options["server_hostname"] = url.host
        for number, address in enumerate(addresses, start=1):
            target = yarl.URL(f"{url.scheme}://{address}:{url.port}{path}", encoded=True)
            try:
                answer = await self._session.request(method, target, **options)
            except aiohttp.ClientConnectorError:
                if number == len(addresses):
                    raise
                continue
            async with answer:
                yield answer
            return


async def _linger(answer: aiohttp.ClientResponse) -> None:
    """Read a little of the body, so that a receiver that sends it does not fail over it."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(LINGER_S):
            await answer.content.read(READ_BYTES)


def _attempt(answer: aiohttp.ClientResponse) -> Attempt:
    status = answer.status
    if 200 <= status < 300:
        return Attempt(status)
    why = f"answered {status}"
    if 300 <= status < 400:
        why += "; redirects are not followed"
    if status == GONE:
        why += "; the receiver wants no more"
    header = answer.headers.get("Retry-After")
    return Attempt(status, why, None if header is None else parse_retry_after(header, time.time()))
