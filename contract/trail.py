"""What the store notes of a job on its way, so that it can be said why the job waited.

Each step writes its own note in the move that it makes anyway: `enqueue` what waited when the job
came, `claim` what went before it and what its group was predicted to take, `settle` the report of
the group that it ran in. Jobs of earlier versions of the platform lack notes, and so do jobs that
never came that far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgpack

# functions that `Planned.before_of` names
MOST_NAMED = 3


class Ahead(NamedTuple):
    """Jobs that waited when a job was accepted."""

    # of all functions
    jobs: int
    # of its own
    own: int

    @classmethod
    def decode(cls, data: bytes) -> Ahead:
        """As `enqueue.lua` writes it."""
        jobs, own = data.split()
        return cls(int(jobs), int(own))


class Planned(NamedTuple):
    """What the scheduler knew when it sent a job to a worker."""

    # Unix seconds
    claimed_at_s: float
    # of its group on the device, weights included
    predicted_s: float
    # jobs sent to workers while it waited
    before: int
    # the functions that most of these were of, and how many
    before_of: Sequence[tuple[str, int]] = ()
    # it waited for longer than the scheduler looks back: at least so many
    is_at_least: bool = False

    def encode(self) -> bytes:
        """msgpack array in field order."""
        packed = msgpack.packb(list(self))
        assert isinstance(packed, bytes)
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Planned:
        """The note of `encode`, of an earlier version of it too."""
        return cls(*msgpack.unpackb(data, use_list=False))


class Trail(NamedTuple):
    """The notes of one job, as stored; empty where there is none."""

    # Ahead
    ahead: bytes = b""
    # Planned, of its last claim
    planned: bytes = b""
    # GroupReport of the group that it ran in
    ran: bytes = b""
    # while it runs
    worker: str = ""
    group: str = ""
