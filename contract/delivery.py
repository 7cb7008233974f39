"""A delivery: what became of telling one destination of the end of one job."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import StrEnum

import msgpack


class State(StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"  # to be tried at `next_at_s`
    DELIVERED = "delivered"  # the destination has it
    GIVEN_UP = "given_up"  # nothing is tried any more; it is a dead letter


@dataclass(frozen=True, slots=True)
class Delivery:
    """One line of a job's delivery log. Times are Unix seconds, 0 where there is none."""

    # as `contract.destinations` writes it
    destination: str
    state: State
    # when the job had ended
    created_at_s: float
    next_at_s: float = 0.0
    attempts: int = 0
    # of the last attempt: when, the HTTP status that was answered (0: none), and what went wrong
    at_s: float = 0.0
    status: int = 0
    error: str = ""
    # the job that a function made of it
    job: str = ""

    def encode(self) -> bytes:
        """msgpack array in field order."""
        packed = msgpack.packb([*astuple(self)])
        assert isinstance(packed, bytes)
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Delivery:
        """The delivery of `encode`."""
        destination, state, *rest = msgpack.unpackb(data)
        return cls(destination, State(state), *rest)
