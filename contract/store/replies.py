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
        client = server.blocking()
        try:
            with client.pubsub() as channel:  # type: ignore[no-untyped-call]  # redis-py
                channel.subscribe(keys.replies(gateway_id))
                while not stop.is_set():
                    message = channel.get_message(timeout=LISTEN_S)
                    if message is None:
                        continue
                    if message["type"] == "subscribe":
                        resync()
                    elif message["type"] == "message":
                        for job, outcome in read_mail(message["data"]):
                            deliver(job, outcome)
        except (RedisConnectionError, RedisTimeoutError) as error:
            log.warning("subscription_lost", reason=error)
            stop.wait(RECONNECT_S)
        finally:
            client.close()
