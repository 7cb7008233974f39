"""What the active scheduler publishes of itself and of how functions were served of late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack

from contract import keys
from contract.store.queue import GroupReport
from contract.store.server import Server, store_errors
from contract.utility import Served

# A scheduler that no longer leads leaves nothing behind for longer.
SCHEDULING_TTL_S = 5.0
# upper bounds of the histogram of decision times, seconds; one more bucket holds what is slower
DECISION_BOUNDS_S = (
    25e-6, 50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 3e-3, 5e-3, 10e-3, 30e-3, 100e-3,
)  # fmt: skip
# signals that the stream keeps, about; groups are among them
SIGNALS_KEPT = 4096


class Decisions(NamedTuple):
    """Calls of the policy since this scheduler leads, and how long they took."""

    policy: str
    calls: int
    dispatches: int
    seconds: float
    # calls per bucket of DECISION_BOUNDS_S
    buckets: Sequence[int]
    # of the last calls; None before the first
    p50_s: float | None
    p99_s: float | None


class SchedulingNow(NamedTuple):
    """What was published last."""

    decisions: Decisions
    # by function, of those that have answered in the window
    served: Mapping[str, Served]


class Answers(NamedTuple):
    """Counters of one function, ever."""

    answered: int
    late: int
    latency_s: float


class Scheduling:
    """The scheduler's own figures, and the groups that workers have reported."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def publish(self, now: SchedulingNow) -> None:
        """Replace what was published before."""
        packed: Any = msgpack.packb([now.decisions, dict(now.served)])
        with store_errors():
            self._server.redis.set(keys.SCHEDULING, packed, px=int(SCHEDULING_TTL_S * 1000))

    def now(self) -> SchedulingNow | None:
        """What was published last; None while no scheduler leads."""
        with store_errors():
            found: Any = self._server.redis.get(keys.SCHEDULING)
        if found is None:
            return None
        decisions, served = msgpack.unpackb(found)
        return SchedulingNow(Decisions(*decisions), {n: Served(*s) for n, s in served.items()})

    def answers(self, names: Iterable[str]) -> dict[str, Answers]:
        """What has been answered ever, by function."""
        names = list(names)
        if not names:
            return {}
        found = self._server.call_all(
            [("HMGET", keys.stats(name), "jobs:succeeded", "late", "us:answered") for name in names]
        )
        return {
            name: Answers(int(answered or 0), int(late or 0), int(latency_us or 0) / 1e6)
            for name, (answered, late, latency_us) in zip(names, found, strict=True)
        }

    def last_groups(self, count: int) -> list[GroupReport]:
        """The groups that ended last, of all workers, the newest first.

        They are read from the signals that tell the scheduler of them, so keeping them costs
        nothing: about SIGNALS_KEPT, fewer where workers come and go.
        """
        # few signals are of anything else
        entries = min(SIGNALS_KEPT, 2 * count + 64)
        with store_errors():
            found: Any = self._server.redis.xrevrange(keys.SIGNALS, count=entries)
        groups = (GroupReport.decode(entry[b"d"]) for _, entry in found if entry[b"k"] == b"group")
        return [group for group, _ in zip(groups, range(count), strict=False)]
