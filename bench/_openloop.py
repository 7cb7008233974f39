"""Clients that send at a rate, whether answers come or not: what overload really looks like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit


class Reply(NamedTuple):
    """One answer; times in seconds on the client's clock; status 0 when the connection broke."""

    sent_at_s: float
    latency_s: float
    status: int
    retry_after_s: int | None
    code: str


class BadAnswer(Exception):
    """Not an HTTP answer of a known length."""


@dataclass
class Client:
    """HTTP/1.1 over kept connections, as many as it takes."""

    url: str
    body: bytes = b""
    content_type: str = "application/json"
    replies: list[Reply] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        self._address = parts.hostname, parts.port
        method = "POST" if self.body else "GET"
        self._request = (
            f"{method} {parts.path} HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body

    async def call(self) -> None:
        """Send one request and keep its answer."""
        started_s = time.monotonic()
        try:
            status, fields, body = await self.exchange()
        except (OSError, asyncio.IncompleteReadError):
            status, fields, body = 0, {}, b""
        text = fields.get(b"retry-after")
        code = body.rpartition(b'"code":"')[2].partition(b'"')[0].decode() if status >= 400 else ""
        latency_s = time.monotonic() - started_s
        self.replies.append(Reply(started_s, latency_s, status, int(text) if text else None, code))

    async def exchange(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, header fields by lower-case name, body."""
        link = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        reader, writer = link
        try:
            writer.write(self._request)
            answer = await _answer(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append(link)
        return answer

    async def send_at(self, per_second: float, seconds: float) -> None:
        """Send evenly at this rate, then wait for every answer."""
        began_s = time.monotonic()
        calls = []
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, began_s + number / per_second - time.monotonic()))
            calls.append(asyncio.create_task(self.call()))
        await asyncio.gather(*calls)

    async def keep_sending(self, clients: int, seconds: float) -> None:
        """A closed loop: each of these clients sends when it has its answer."""
        end_s = time.monotonic() + seconds

        async def one() -> None:
            while time.monotonic() < end_s:
                await self.call()

        await asyncio.gather(*(one() for _ in range(clients)))

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head[:-4].split(b"\r\n")
    fields = {
        name.lower(): value.strip() for name, _, value in (field.partition(b":") for field in lines)
    }
    length = fields.get(b"content-length")
    if length is None:
        raise BadAnswer(head.decode("latin-1"))
    return int(line.split(b" ", 2)[1]), fields, await reader.readexactly(int(length))


def quantile_ms(replies: Iterable[Reply], share: float) -> float:
    """Latency that this share of the answers did not exceed."""
    latencies = sorted(reply.latency_s for reply in replies)
    assert latencies, "no answers"
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1e3
