"""Counters and logs.

Fields of `fb:stats:<name>`: `jobs:<status>`, `rows`, `latency:<bucket>`, `groups`, `cold`, `late`
(succeeded, but answered later than due), `us:<stage>` sums in microseconds for the stages of
`contract.job.TIMINGS`, `us:answered` (total of those that succeeded), `rejected:<reason>`, and what
`finish` and `refuse` count: `expired:queue`, `refused:<code>`, `abandoned`.
Fields of `fb:counters`: `groups`, `group_jobs`, `group_functions`, `rejected:<reason>`,
`expired:<stage>`, `refused:<code>` (accepted, then found not to be met in time), `abandoned`
(cancelled because their caller hung up), `isolated` (fused runs repeated singly after a failure),
`swap_bytes`, `fenced`, `deliveries:<state>`, `dead_letters`, `events`, `events_unmatched`, and by
kind of trigger `trigger_calls:<kind>`, `trigger_duplicates:<kind>`, `trigger_skipped:<kind>`,
`trigger_failures:<kind>`.
"""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from contract import keys
from contract.job import SETTLED
from contract.store.link import Argument
from contract.store.server import Server, store_errors

# upper bounds of the latency histogram, seconds; one more bucket holds what is slower
LATENCY_BOUNDS_S = tuple(
    round(scale * 10.0**power, 6)
    for power in range(-3, 2)
    for scale in (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)
)
LOG_LINES = 1_000
# fields of fb:prediction beside functions: seconds on the device; and with swap and build before it
COMPUTE, TOTAL = "compute", "total"


def latency_bucket(latency_s: float) -> int:
    """Index of the histogram bucket that counts this latency."""
    return bisect.bisect_left(LATENCY_BOUNDS_S, latency_s)


class Conservation(NamedTuple):
    """Where all accepted jobs are, read at one moment."""

    accepted: int
    queued: int
    running: int
    settled: dict[str, int]

    @property
    def drift(self) -> int:
        """Jobs that were accepted and are nowhere; must be 0."""
        return self.accepted - self.queued - self.running - sum(self.settled.values())


class PredictionError(NamedTuple):
    """How far predictions were off: |predicted - measured| / measured, of the latest groups."""

    median: float
    p90: float
    # that the figures are of
    groups: int


class LogLine(NamedTuple):
    """A line of a function's log."""

    at_s: float
    version: int
    job: str
    level: str
    text: str


# A scheduler that stops measuring leaves no rates behind for longer.
DRAIN_TTL_S = 3.0


class Telemetry:
    """The counters and logs of the store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def conservation(self) -> Conservation:
        """Accepted, queued, running and settled jobs of one moment."""
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=True)
            pipe.hgetall(keys.COUNTS)
            pipe.xlen(keys.PENDING)
            pipe.zcard(keys.LEASES)
            counts, queued, running = pipe.execute()
        number = _numbers(counts)
        settled = {str(status): number.get(status, 0) for status in SETTLED}
        return Conservation(number.get("accepted", 0), queued, running, settled)

    def counters(self) -> dict[str, int]:
        """The counters of the platform."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.COUNTERS)
        return _numbers(found)

    def count(self, field: str, amount: int = 1) -> None:
        """Add to a counter of the platform."""
        with store_errors():
            self._server.redis.hincrby(keys.COUNTERS, field, amount)

    def queued(self) -> dict[str, int]:
        """Queued jobs by function."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.QUEUED)
        return _numbers(found)

    def set_drain(self, rates: Mapping[str, float]) -> None:
        """Publish jobs settled per second by function, "" for all: of those that have a backlog."""
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=True)
            pipe.delete(keys.DRAIN)
            if rates:
                pipe.hset(keys.DRAIN, mapping={name: f"{rate:.6g}" for name, rate in rates.items()})
                pipe.pexpire(keys.DRAIN, int(DRAIN_TTL_S * 1000))
            pipe.execute()

    def drain(self) -> dict[str, float]:
        """The rates of `set_drain`; none while nothing waits."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.DRAIN)
        return {name.decode(): float(rate) for name, rate in found.items()}

    def set_prediction_error(self, errors: Mapping[str, PredictionError]) -> None:
        """Publish the errors of COMPUTE and TOTAL times of groups, and by NAME@VERSION."""
        args: list[Argument] = []
        for name, error in errors.items():
            args += [name, json.dumps(error)]
        self._server.run("predicted", args)

    def prediction_error(self) -> dict[str, PredictionError]:
        """The errors of `set_prediction_error`; none before a group has ended."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.PREDICTION)
        return {name.decode(): PredictionError(*json.loads(error)) for name, error in found.items()}

    def stats(self, names: list[str]) -> dict[str, dict[str, int]]:
        """The counters of functions, by name."""
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(keys.stats(name))
            return {n: _numbers(s) for n, s in zip(names, pipe.execute(), strict=True)}

    def write_log(self, function: str, line: LogLine) -> None:
        """Append to a function's log, which keeps its newest lines."""
        entry: Any = {
            "at": line.at_s,
            "v": line.version,
            "job": line.job,
            "level": line.level,
            "text": line.text,
        }
        with store_errors():
            self._server.redis.xadd(keys.log(function), entry, maxlen=LOG_LINES, approximate=True)

    def read_log(self, function: str, count: int = 100, since_s: float = 0.0) -> list[LogLine]:
        """The newest lines of a function's log, oldest first."""
        with store_errors():
            found: Any = self._server.redis.xrevrange(
                keys.log(function), min=str(int(since_s * 1000)) if since_s else "-", count=count
            )
        return [
            LogLine(
                float(f[b"at"]), int(f[b"v"]), f[b"job"].decode(), f[b"level"].decode(),
                f[b"text"].decode(errors="replace"),
            )
            for _, f in reversed(found)
        ]  # fmt: skip


def quantile_s(stats: dict[str, int], share: float) -> float | None:
    """Latency below which this share of jobs answered, interpolated within its bucket."""
    counts = [stats.get(f"latency:{i}", 0) for i in range(len(LATENCY_BOUNDS_S) + 1)]
    target = share * sum(counts)
    seen = 0
    for i, count in enumerate(counts):
        if count and seen + count >= target:
            low = LATENCY_BOUNDS_S[i - 1] if i else 0.0
            high = LATENCY_BOUNDS_S[min(i, len(LATENCY_BOUNDS_S) - 1)]
            return low + (high - low) * max(0.0, (target - seen) / count)
        seen += count
    return None


def now_line(version: int, job: str, level: str, text: str) -> LogLine:
    """A log line of this moment."""
    return LogLine(time.time(), version, job, level, text)


def _numbers(found: dict[bytes, bytes]) -> dict[str, int]:
    return {field.decode(): int(value) for field, value in found.items()}
