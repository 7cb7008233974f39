"""What `fusebox top` shows: two moments of the platform's counters, and what happened between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from contract.store.telemetry import quantile_s
from deploy.client import Record
from deploy.top_serving import SchedulingLine, ServingLine, scheduling_line, serving_line


class Moment(NamedTuple):
    """GET /v1/stats and GET /v1/workers of one moment."""

    stats: Record
    workers: list[Record]
    # GET /v1/groups, where it is asked for
    groups: Sequence[Record] = ()


@dataclass(frozen=True)
class FunctionLine:
    """One function; rates and latencies are of the time between the moments."""

    name: str
    version: int
    tier: str
    weight_bytes: int
    queued: int
    rows_per_s: float
    jobs_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    failed: int


@dataclass(frozen=True)
class MemoryLine:
    """One function in one worker's memory, counted from the worker's start; times are means."""

    function: str
    worker: str
    tier: str
    device_bytes: int
    host_bytes: int
    loads: int
    disk_loads: int
    load_ms: float | None
    evictions: int
    thrash: int
    # age at eviction: since the last use, and since it came in
    idle_s: float | None
    stayed_s: float | None


@dataclass(frozen=True)
class WorkerLine:
    """One worker; the counters of its DAG cache count from its start."""

    id: str
    device: str
    budget_bytes: int
    resident_bytes: int
    # by which the process is larger than at its start
    grown_bytes: int
    resident: int
    loads: int
    evictions: int
    thrash: int
    dag_entries: int
    dag_bytes: int
    dag_hits: int
    dag_misses: int
    dag_evictions: int
    # how many of the newest groups run with each strategy
    strategies: dict[str, int]
    # of the group that gains most over its members one after another; None before any was measured
    best_gain: float | None
    is_draining: bool


@dataclass(frozen=True)
class View:
    """A refresh of the screen."""

    at_s: float
    seconds: float
    queued: int
    running: int
    drift: int
    functions: tuple[FunctionLine, ...]
    workers: tuple[WorkerLine, ...]
    memory: tuple[MemoryLine, ...]
    serving: tuple[ServingLine, ...] = ()
    scheduling: SchedulingLine | None = None
    groups: tuple[Record, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The view as plain JSON values."""
        return asdict(self)


def view(before: Moment, after: Moment) -> View:
    """What to show at `after`, with rates since `before`."""
    seconds = after.stats["at_s"] - before.stats["at_s"]
    earlier = {function["name"]: function for function in before.stats["functions"]}
    lines = [
        _function_line(earlier.get(function["name"], function), function, seconds)
        for function in after.stats["functions"]
    ]
    jobs = after.stats["jobs"]
    return View(
        at_s=after.stats["at_s"],
        seconds=seconds,
        queued=jobs["queued"],
        running=jobs["running"],
        drift=jobs["drift"],
        functions=tuple(sorted(lines, key=lambda line: (-line.rows_per_s, line.name))),
        workers=tuple(_worker_line(worker) for worker in after.workers),
        # the last used first
        memory=tuple(
            _memory_line(worker["id"], function, worker["memory"][function])
            for worker in after.workers
            for function in reversed(worker["memory"])
        ),
        serving=tuple(serving_line(function) for function in after.stats["functions"]),
        scheduling=scheduling_line(after.stats),
        groups=tuple(after.groups),
    )


def _function_line(before: Record, after: Record, seconds: float) -> FunctionLine:
    counts = [now - then for now, then in zip(after["latency"], before["latency"], strict=True)]
    # counters begin anew when a function is removed and deployed again
    if min(counts) < 0:
        before, counts = after, [0] * len(counts)
    stats = {f"latency:{i}": count for i, count in enumerate(counts)}
    return FunctionLine(
        name=after["name"],
        version=after["version"],
        tier=after["tier"],
        weight_bytes=after["weight_bytes"],
        queued=after["queued"],
        rows_per_s=_rate(after["rows"] - before["rows"], seconds),
        jobs_per_s=_rate(sum(counts), seconds),
        p50_ms=_in_ms(quantile_s(stats, 0.5)),
        p99_ms=_in_ms(quantile_s(stats, 0.99)),
        failed=after["jobs"]["failed"],
    )


def _worker_line(worker: Record) -> WorkerLine:
    cache = worker["dag_cache"]
    return WorkerLine(
        id=worker["id"],
        device=worker["device"],
        budget_bytes=worker["budget_bytes"],
        resident_bytes=worker["resident_bytes"],
        grown_bytes=worker["process_bytes"] - worker["baseline_bytes"],
        resident=len(worker["functions"]),
        loads=worker["loads"],
        evictions=worker["evictions"],
        thrash=worker["thrash"],
        dag_entries=cache["entries"],
        dag_bytes=cache["bytes"],
        dag_hits=cache["hits"],
        dag_misses=cache["misses"],
        dag_evictions=cache["evictions"],
        strategies=dict(Counter(worker["strategies"].values()).most_common()),
        best_gain=max(_gains(worker), default=None),
        is_draining=worker["is_draining"],
    )


def _memory_line(worker: str, function: str, memory: Record) -> MemoryLine:
    loads, evictions = memory["loads"], memory["evictions"]
    return MemoryLine(
        function=function,
        worker=worker,
        tier=memory["tier"],
        device_bytes=memory["device_bytes"],
        host_bytes=memory["host_bytes"],
        loads=loads,
        disk_loads=memory["disk_loads"],
        load_ms=memory["load_s"] / loads * 1000 if loads else None,
        evictions=evictions,
        thrash=memory["thrash"],
        idle_s=memory["idle_s"] / evictions if evictions else None,
        stayed_s=memory["stayed_s"] / evictions if evictions else None,
    )


def _gains(worker: Record) -> list[float]:
    """How many times as fast as `serial` each group runs, where both were measured."""
    return [
        measured["serial"] / measured[strategy]
        for group, strategy in worker["strategies"].items()
        if {"serial", strategy} <= (measured := worker["measured"].get(group, {})).keys()
    ]


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _in_ms(latency_s: float | None) -> float | None:
    return None if latency_s is None else latency_s * 1000
