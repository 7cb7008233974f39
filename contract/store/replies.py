"""The outcomes that are published to one gateway: one subscription, whoever waits there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from threading import Event

from contract import keys
from contract.job import JOB_ID_CHARS, JobId
from contract.store.server import Server
from contract.store.subscription import subscribe

LENGTH = Struct(">I")


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

    def hear(data: bytes) -> None:
        for job, outcome in read_mail(data):
            deliver(job, outcome)

    subscribe(server, keys.replies(gateway_id), hear, resync, stop)
