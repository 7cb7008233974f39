"""The outcomes that are published to one gateway: one subscription, whoever waits there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from threading import Event

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contract import keys
from contract.job import JOB_ID_CHARS, JobId
from contract.log import Log
from contract.store.server import Server

log = Log("replies")
RECONNECT_S = 0.2
LENGTH = Struct(">I")
# The stop event is looked at this often; replies themselves wake the listener at once.
LISTEN_S = 1.0


def read_mail(data: bytes) -> Iterator[tuple[JobId, bytes]]:
    """Jobs and their encoded outcomes, as one script settled them."""
    at = 0
    while at < len(data):
        outcome_at = at + JOB_ID_CHARS + LENGTH.size
        job = JobId(data[at : at + JOB_ID_CHARS].decode())
        (length,) = LENGTH.unpack_from(data, at + JOB_ID_CHARS)
        at = outcome_at + length
        yield job, data[outcome_at:at]


def listen(
    server: Server,
    gateway_id: str,
    deliver: Callable[[JobId, bytes], None],
    resync: Callable[[], None],
    stop: Event,
) -> None:
    """Deliver encoded outcomes until `stop` is set.

    Publications made while the connection is down are lost; `resync` is called after every
    (re)subscription, so that the gateway reads again what it waits for.
    """
    while not stop.is_set():
        connection = server.subscriber()
        try:
            connection.send_command("SUBSCRIBE", keys.replies(gateway_id))
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
                    for job, outcome in read_mail(data):
                        deliver(job, outcome)
        except (RedisConnectionError, RedisTimeoutError) as error:
            log.warning("subscription_lost", reason=error)
            stop.wait(RECONNECT_S)
        finally:
            connection.disconnect()
