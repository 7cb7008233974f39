"""Many calls of one function: how fast, how well grouped, how often cold."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from contract.errors import FuseboxError
from deploy.client import Body, Client, Record


class Call(NamedTuple):
    """One call as its caller saw it; `error` is the code it ended in, or empty."""

    latency_ms: float
    group_jobs: int = 0
    is_cold: bool = False
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """What many calls say together. Latencies are of the calls that succeeded, in ms."""

    requests: int
    failed: int
    seconds: float
    throughput_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    mean_group_jobs: float | None
    cold_share: float | None
    errors: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return asdict(self)


def summarize(calls: list[Call], seconds: float) -> Summary:
    """The summary of calls that took so many seconds together."""
    done = [call for call in calls if not call.error]
    latencies = sorted(call.latency_ms for call in done)
    return Summary(
        requests=len(calls),
        failed=len(calls) - len(done),
        seconds=seconds,
        throughput_per_s=len(done) / seconds if seconds else 0.0,
        p50_ms=quantile(latencies, 0.50),
        p95_ms=quantile(latencies, 0.95),
        p99_ms=quantile(latencies, 0.99),
        mean_group_jobs=_mean([call.group_jobs for call in done]),
        cold_share=_mean([call.is_cold for call in done]),
        errors=dict(Counter(call.error for call in calls if call.error)),
    )


def quantile(ordered: list[float], share: float) -> float | None:
    """The least value that at least this share of the values does not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def repeat(
    connect: Callable[[], Client],
    name: str,
    body: Body,
    count: int,
    concurrency: int,
    on_call: Callable[[], None],
    priority: int | None = None,
) -> Summary:
    """Call `count` times from `concurrency` threads, each with a connection of its own.

    Raises what the first call meets, before any of the others is made.
    """
    with connect() as client:
        first = _call(client, name, body, priority, is_raising=True)
    on_call()
    left = iter(range(count - 1))
    lock = threading.Lock()

    def work() -> list[Call]:
        calls: list[Call] = []
        with connect() as client:
            while True:
                with lock:
                    if next(left, None) is None:
                        return calls
                calls.append(_call(client, name, body, priority, is_raising=False))
                on_call()

    if count == 1:
        return summarize([first], first.latency_ms / 1000)
    began_s = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        futures = [pool.submit(work) for _ in range(concurrency)]
        calls = [call for future in futures for call in future.result()]
    return summarize([first, *calls], time.perf_counter() - began_s + first.latency_ms / 1000)


def _call(client: Client, name: str, body: Body, priority: int | None, *, is_raising: bool) -> Call:
    began_s = time.perf_counter()
    try:
        record = client.call(name, body, priority=priority)
    except FuseboxError as error:
        if is_raising:
            raise
        return Call((time.perf_counter() - began_s) * 1000, error=error.code)
    latency_ms = (time.perf_counter() - began_s) * 1000
    if "status" in record:
        return Call(latency_ms, error="unfinished")
    return Call(latency_ms, record["group"]["jobs"], _is_cold(record))


def _is_cold(record: Record) -> bool:
    return bool(record["timings_ms"].get("swap", 0.0) > 0.0)


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None
