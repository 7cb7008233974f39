"""The platform at one moment, as read from the store: what stats, metrics and pages show."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from contract.function import Function
from contract.job import SETTLED, TIMINGS
from contract.store import Store
from contract.store.deliveries import Backlog
from contract.store.scheduling import SchedulingNow
from contract.store.telemetry import (
    LATENCY_BOUNDS_S,
    Conservation,
    PredictionError,
    quantile_s,
)
from contract.store.triggers import States
from contract.store.workers import DagCacheReport, WorkerReport
from gateway.serving import deciding, serving

Counters = Mapping[str, int]


@dataclass(frozen=True)
class Overview:
    """Everything that is counted, for all functions and workers."""

    at_s: float
    functions: list[Function]
    stats: Mapping[str, Counters]
    queued: Counters
    counters: Counters
    conservation: Conservation
    workers: list[WorkerReport]
    # None while no scheduler leads
    scheduling: SchedulingNow | None = None
    # of COMPUTE and TOTAL times of groups, and by NAME@VERSION
    prediction: Mapping[str, PredictionError] = field(default_factory=dict)
    triggers: States = field(default_factory=States)
    backlog: Backlog = field(default_factory=Backlog)

    @classmethod
    def read(cls, store: Store) -> Overview:
        """Read it now; raises StoreUnavailable."""
        functions = store.functions.all()
        return cls(
            time.time(),
            functions,
            store.telemetry.stats([function.name for function in functions]),
            store.telemetry.queued(),
            store.telemetry.counters(),
            store.telemetry.conservation(),
            store.workers.all(),
            store.scheduling.now(),
            store.telemetry.prediction_error(),
            store.triggers.states(),
            store.deliveries.backlog(),
        )

    @property
    def dag_cache(self) -> DagCacheReport:
        """The caches of all workers together."""
        caches = [worker.dag_cache for worker in self.workers]
        return DagCacheReport(
            sum(cache.entries for cache in caches),
            sum(cache.bytes for cache in caches),
            sum(cache.hits for cache in caches),
            sum(cache.misses for cache in caches),
            sum(cache.evictions for cache in caches),
        )

    def as_json(self) -> dict[str, Any]:
        """GET /v1/stats."""
        now = self.conservation
        return {
            "at_s": self.at_s,
            "functions": [self.function_stats(function) for function in self.functions],
            "jobs": {
                "accepted": now.accepted,
                "queued": now.queued,
                "running": now.running,
                **now.settled,
                "drift": now.drift,
            },
            "latency_bounds_s": LATENCY_BOUNDS_S,
            "dag_cache": asdict(self.dag_cache),
            "loads": sum(worker.loads for worker in self.workers),
            "evictions": sum(worker.evictions for worker in self.workers),
            "counters": self.counters,
            "scheduling": deciding(self.scheduling),
            "prediction_error": {k: error._asdict() for k, error in self.prediction.items()},
        }

    def function_stats(self, function: Function) -> dict[str, Any]:
        """One function: where it is, what waits for it, and its counters since the first call."""
        stats = self.stats[function.name]
        return {
            "name": function.name,
            "version": function.version,
            "tier": tier(function, self.workers),
            "weight_bytes": function.manifest.weight_bytes,
            "slo_ms": function.manifest.slo_ms,
            "queued": self.queued.get(function.name, 0),
            "jobs": {str(status): stats.get(f"jobs:{status}", 0) for status in SETTLED},
            "rows": stats.get("rows", 0),
            "groups": stats.get("groups", 0),
            "cold": stats.get("cold", 0),
            "p50_ms": _in_ms(quantile_s(dict(stats), 0.5)),
            "p99_ms": _in_ms(quantile_s(dict(stats), 0.99)),
            "latency": latency_counts(stats),
            "stages_ms": {stage: stats.get(f"us:{stage}", 0) / 1000 for stage in TIMINGS},
            **serving(function, stats, self.scheduling),
        }


def latency_counts(stats: Counters) -> list[int]:
    """Jobs per latency bucket; the last counts those slower than every bound."""
    return [stats.get(f"latency:{bucket}", 0) for bucket in range(len(LATENCY_BOUNDS_S) + 1)]


def tier(function: Function, workers: Iterable[WorkerReport]) -> str:
    """The nearest place where some worker has the weights: device, host or disk."""
    ref = str(function.ref)
    workers = list(workers)
    if any(ref in worker.functions for worker in workers):
        return "device"
    return "host" if any(ref in worker.hosted for worker in workers) else "disk"


def execution(function: Function, workers: Iterable[WorkerReport]) -> dict[str, Any]:
    """How it runs: milliseconds by rows and tier, and of the groups it was in by strategy.

    The one tier of a function without a graph is `eager`, and it is in no group. `lanes` are the
    functions of a group by thread, where it was tried side by side. Of several workers the first
    that knows is asked: they measure alike. `row_ceiling` is the least that any of them has learned
    from runs that lacked memory; None where none did. `blocks` is there for a function that does
    not fit as a whole.
    """
    ref, threads, ceilings = str(function.ref), 1, []
    tiers: dict[str, dict[str, float]] = {}
    groups: dict[str, dict[str, Any]] = {}
    plans: dict[str, Any] = {}
    for worker in workers:
        if ref in worker.blocks:
            plans.setdefault("blocks", asdict(worker.blocks[ref]))
        threads = max(threads, worker.threads)
        tiers = tiers or worker.tiers.get(ref, {})
        ceilings += [worker.row_ceilings.get(function.manifest.architecture)]
        for name, strategy in worker.strategies.items():
            if any(member.split(" ")[0] == ref for member in name.split(" + ")):
                group = {
                    "strategy": strategy,
                    "measured_ms": worker.measured.get(name, {}),
                    "lanes": worker.lanes.get(name, []),
                }
                groups.setdefault(name, group)
    row_ceiling = min((rows for rows in ceilings if rows is not None), default=None)
    found = {"tiers": tiers, "groups": groups, "threads": threads, "row_ceiling": row_ceiling}
    return found | plans


def newest_groups(worker: WorkerReport, count: int) -> list[dict[str, Any]]:
    """Its groups of several functions, the newest first: strategy, milliseconds, gain.

    `gain` is over `serial`, members one after another; None where either was not measured.
    """
    groups = []
    for name, strategy in [*worker.strategies.items()][: -count - 1 : -1]:
        measured = worker.measured.get(name, {})
        ms, serial_ms = measured.get(strategy), measured.get("serial")
        gain = serial_ms / ms if ms and serial_ms else None
        groups.append({"name": name, "strategy": strategy, "ms": ms, "gain": gain})
    return groups


def _in_ms(latency_s: float | None) -> float | None:
    return None if latency_s is None else latency_s * 1000
