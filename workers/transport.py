"""kombu's Redis transport as workers consume with it, and messages that others put into queues."""

from __future__ import annotations

from typing import Any

from kombu import connection
from kombu.transport import redis, virtual
from kombu.utils.json import dumps

# Seconds between attempts to connect.
RECONNECT = {"interval_start": 0.1, "interval_step": 0.2, "interval_max": 1.0}


class Channel(redis.Channel):
    """A channel that consumes."""

    def _queue_bind(self, *_: Any) -> None:
        """Keep no table of bindings: messages name their queue, and no start of a worker is left.

        kombu's would gain an entry with every worker that ever consumes.
        """


class Envelope(virtual.Channel):
    """A channel that gives back what it is to send, as a Redis queue would hold it."""

    _sealed = b""

    def take(self) -> bytes:
        """What was sent last."""
        return self._sealed

    def _put(self, queue: str, message: Any, **_options: Any) -> None:
        self._sealed = dumps(message).encode()  # type: ignore[no-untyped-call]  # kombu is untyped


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


class Sealing(virtual.Transport):
    """Sends nothing anywhere."""

    Channel = Envelope
