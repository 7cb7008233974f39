"""kombu's Redis transport, with one client per channel for what it sends.

kombu makes a client for every message, which since redis-py 5 costs as much as all the rest of the
message: each fills a table of some 170 callbacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from kombu import connection
from kombu.transport import redis
from kombu.utils.json import dumps

# Groups that run make room in a full store, so their messages must pass while it refuses others.
_PUSH = "#!lua flags=allow-oom\nreturn redis.call('LPUSH', KEYS[1], ARGV[1])"
# Seconds between attempts to connect.
RECONNECT = {"interval_start": 0.1, "interval_step": 0.2, "interval_max": 1.0}


class Channel(redis.Channel):
    """A channel that keeps its client; not the consuming one, whose connection blocks."""

    @cached_property
    def _sending_client(self) -> Any:
        return self._create_client()  # type: ignore[no-untyped-call]  # kombu is untyped

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """The client given, or the channel's own."""
        yield client or self._sending_client

    def _queue_bind(self, *_: Any) -> None:
        """Keep no table of bindings: messages name their queue, and no start of a worker is left.

        kombu's would gain an entry with every worker that ever consumes.
        """

    def _put(self, queue: str, message: Any, **_options: Any) -> None:
        self._sending_client.eval(_PUSH, 1, queue, dumps(message))  # type: ignore[no-untyped-call]  # kombu is untyped


class Connection(connection.Connection):
    """A connection that comes back soon after its server.

    kombu waits 2, 4, 6 seconds and more between attempts, by which time a worker counts as gone.
    """

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, however often it takes; options as kombu has them."""
        return super().ensure_connection(*args, **(RECONNECT | options))  # type: ignore[no-untyped-call]  # kombu


class Transport(redis.Transport):
    """What the URL scheme `redis` stands for here."""

    Channel = Channel
