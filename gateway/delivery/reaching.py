"""From a webhook's host to the addresses that are dialled: resolved once, all of them checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from contract.destinations import Url
from gateway.delivery.addresses import Address, Allowed

# Host and port to the addresses that the name has now; raises OSError.
Resolve = Callable[[str, int], Awaitable[list[str]]]
# Lookups at once; a name server that does not answer holds up one.
LOOKUPS = 32
# dialled one after another
MAX_ADDRESSES = 3


class Refused(Exception):
    """This may not be reached, now or later."""


class Resolver:
    """The system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(LOOKUPS, "lookup")

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses of a name; raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._pool, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Let the threads end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def addresses_of(url: Url, allowed: Allowed, resolve: Resolve) -> list[str]:
    """The addresses to dial, as a URL has them; raises Refused and OSError.

    One address that may not be reached condemns the name: whoever controls it chose to give it.
    """
    texts = [url.host] if _literal(url.host) is not None else await resolve(url.host, url.port)
    if not texts:
        raise OSError(f"{url.host} has no address")
    found = []
    for text in texts:
        address = _literal(text)
        if address is None or not allowed.may_reach(url.host, address):
            raise Refused(f"{url.host} is at {text}, which is no public address")
        if url.scheme == "http" and not allowed.is_named(url.host, address):
            raise Refused("without TLS only what FUSEBOX_WEBHOOK_ALLOW names is told")
        found.append(f"[{address}]" if address.version == 6 else str(address))
    return found[:MAX_ADDRESSES]


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
