"""One channel listened to for as long as wanted, over connections that may be lost."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contract.log import Log
from contract.store.server import Server

log = Log("subscription")
RECONNECT_S = 0.2
# The stop event is looked at this often; messages themselves wake the listener at once.
LISTEN_S = 1.0


def subscribe(
    server: Server,
    channel: str,
    hear: Callable[[bytes], None],
    resync: Callable[[], None],
    stop: Event,
) -> None:
    """Call `hear` with each message until `stop` is set.

    What is published while the connection is down is lost; `resync` is called after every
    (re)subscription.
    """
    while not stop.is_set():
        connection = server.subscriber()
        try:
            connection.send_command("SUBSCRIBE", channel)
            connection.read_response()
            resync()
            while not stop.is_set():
                try:
                    kind, _, data = connection.read_response(
                        timeout=LISTEN_S, disconnect_on_error=False
                    )
                except RedisTimeoutError:
                    continue
                if kind == b"message":
                    hear(data)
        except (RedisConnectionError, RedisTimeoutError) as error:
            log.warning("subscription_lost", channel=channel, reason=error)
            stop.wait(RECONNECT_S)
        finally:
            connection.disconnect()
