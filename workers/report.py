"""What a worker says of itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from contract.store.wanted import WantReport
from contract.store.workers import BlocksReport, DagCacheReport, FunctionMemory, WorkerReport
from fusion.cache import CacheStats
from workers.gauge import Gauge
from workers.prefetching import PrefetchStats
from workers.speed import NOT_MEASURED, Speed
from workers.tiers import HOST


@dataclass(frozen=True)
class Reporter:
    """Makes reports of one worker; fixed facts here, the rest measured for each."""

    id: str
    device: str
    device_name: str
    places: int
    threads: int
    started_at_s: float
    gauge: Gauge
    is_busy: Callable[[], bool]
    # bytes by slot key
    sizes: Callable[[Iterable[str]], dict[str, int]]
    dags: Callable[[], CacheStats]
    strategies: Callable[[], dict[str, str]]
    # milliseconds: by group and strategy; by function, rows and tier
    measured: Callable[[], dict[str, dict[str, float]]]
    lanes: Callable[[], dict[str, list[list[str]]]]
    tiers: Callable[[], dict[str, dict[str, dict[str, float]]]]
    groups: Callable[[], list[str]]
    eviction: str
    # by slot key, given the bytes of residents
    memory: Callable[[dict[str, int]], dict[str, FunctionMemory]]
    # by architecture
    row_ceilings: Callable[[], dict[str, int]]
    blocks: Callable[[], dict[str, BlocksReport]]
    prefetches: Callable[[], PrefetchStats]
    # of wants for weights, by slot key
    wanted: Callable[[], dict[str, WantReport]] = dict
    speed: Speed = NOT_MEASURED

    def report(self, is_draining: bool) -> WorkerReport:
        """The worker now."""
        slots, process_bytes = self.gauge.latest if self.is_busy() else self.gauge.measure()
        dags, prefetches = self.dags(), self.prefetches()
        functions = self.sizes(slots.resident)
        memory = self.memory(functions)
        return WorkerReport(
            id=self.id,
            device=self.device,
            device_name=self.device_name,
            pid=os.getpid(),
            places=self.places,
            budget_bytes=slots.budget_bytes,
            resident_bytes=slots.used_bytes - slots.scratch_bytes,
            process_bytes=process_bytes,
            baseline_bytes=self.gauge.baseline_bytes,
            functions=functions,
            hosted=[key for key, one in memory.items() if one.tier == HOST],
            dag_cache=DagCacheReport(
                dags.entries, dags.bytes, dags.hits, dags.misses, dags.evictions
            ),
            loads=slots.loads,
            evictions=slots.evictions,
            is_draining=is_draining,
            started_at_s=self.started_at_s,
            heartbeat_at_s=time.time(),
            strategies=self.strategies(),
            measured=self.measured(),
            lanes=self.lanes(),
            threads=self.threads,
            tiers=self.tiers(),
            groups=self.groups(),
            thrash=slots.thrash,
            eviction=self.eviction,
            memory=memory,
            row_ceilings=self.row_ceilings(),
            blocks=self.blocks(),
            prefetches=prefetches.prefetches,
            prefetch_hits=prefetches.hits,
            shared_bytes=slots.shared_bytes,
            flops=self.speed.flops,
            memory_bytes_per_s=self.speed.memory_bytes_per_s,
            wanted=self.wanted(),
        )
