"""Workers as they report themselves, and the one active scheduler."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from contract import keys
from contract.store.link import Argument
from contract.store.server import Server, store_errors
from contract.store.wanted import WantReport


@dataclass(frozen=True)
class DagCacheReport:
    """Counters of a worker's cache of fused DAGs."""

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0


@dataclass(frozen=True)
class FunctionMemory:
    """One function in a worker's memory; counted since the worker first had it, times in seconds.

    Seconds without `last` are sums over its loads or evictions.
    """

    # device, host or disk: where its weights are
    tier: str
    # in its slot; 0 where it has none
    device_bytes: int
    # in host memory, estimated and seconds old
    host_bytes: int
    loads: int
    load_s: float
    # the part of both whose bytes were on disk alone
    disk_loads: int
    disk_load_s: float
    evictions: int
    # loads that followed an eviction too soon
    thrash: int
    # age at eviction: since the last use, and since it came in
    idle_s: float
    stayed_s: float
    last_idle_s: float | None
    last_stayed_s: float | None
    # Unix time; None before its first use
    used_at_s: float | None


@dataclass(frozen=True)
class BlocksReport:
    """How a worker runs a function that does not fit as a whole."""

    # what each block reads in every run
    block_bytes: list[int]
    # in which they follow each other
    ring_bytes: int
    # what stays in memory beside the ring
    resident_bytes: int
    # by times that runs have taken, no longer by estimates
    is_measured: bool = False


@dataclass(frozen=True)
class WorkerReport:
    """What a worker says of itself with every heartbeat. Times are Unix seconds."""

    id: str
    device: str
    device_name: str
    pid: int
    places: int
    budget_bytes: int
    # weights in slots and what fused DAGs hold
    resident_bytes: int
    process_bytes: int
    # process_bytes when the worker was ready and nothing was resident
    baseline_bytes: int
    # weights of resident functions: NAME@VERSION -> bytes, least recently used first
    functions: dict[str, int]
    # functions whose weights wait in host memory
    hosted: list[str]
    dag_cache: DagCacheReport
    loads: int
    evictions: int
    is_draining: bool
    started_at_s: float
    heartbeat_at_s: float
    # strategy that a fused DAG runs with, by DAG, for people
    strategies: dict[str, str] = field(default_factory=dict)
    # milliseconds of each strategy of these DAGs
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    # functions by thread, of those of these DAGs that were tried side by side
    lanes: dict[str, list[list[str]]] = field(default_factory=dict)
    # on which members can run side by side
    threads: int = 1
    # milliseconds by NAME@VERSION, row bucket and tier
    tiers: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    # ids of the groups it has begun and not ended
    groups: list[str] = field(default_factory=list)
    # loads of what had just been evicted to make room
    thrash: int = 0
    # order of eviction
    eviction: str = "lru"
    # by NAME@VERSION, of the functions last asked for, the last of them last
    memory: dict[str, FunctionMemory] = field(default_factory=dict)
    # rows that jobs are joined up to where more ran out of memory, by architecture
    row_ceilings: dict[str, int] = field(default_factory=dict)
    # by NAME@VERSION, of functions that run in blocks
    blocks: dict[str, BlocksReport] = field(default_factory=dict)
    # functions brought in before any of their jobs came, and those that were still there then
    prefetches: int = 0
    prefetch_hits: int = 0
    # of weights that several functions hold: in `functions` with each, in resident_bytes once
    shared_bytes: int = 0
    # measured at start: float operations and bytes of memory a second; 0 where that was skipped
    flops: float = 0.0
    memory_bytes_per_s: float = 0.0
    # what it has made of wants for weights, by NAME@VERSION
    wanted: dict[str, WantReport] = field(default_factory=dict)

    def encode(self) -> str:
        """JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> WorkerReport:
        """The report of `encode`, of an earlier version of it too."""
        record = json.loads(data)
        memory = {key: FunctionMemory(**one) for key, one in record.get("memory", {}).items()}
        blocks = {ref: BlocksReport(**its) for ref, its in record.get("blocks", {}).items()}
        dag_cache = DagCacheReport(**record["dag_cache"])
        wanted = {ref: WantReport(**its) for ref, its in record.get("wanted", {}).items()}
        records = {"dag_cache": dag_cache, "memory": memory, "blocks": blocks, "wanted": wanted}
        return cls(**record | records)


class Workers:
    """The workers of the store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def report(self, report: WorkerReport, ttl_s: float, is_news: bool) -> None:
        """Write a heartbeat; `is_news` wakes the scheduler (joined, drains)."""
        args: list[Argument] = [report.id, report.encode(), int(ttl_s * 1000), int(is_news)]
        self._server.run("report", args)

    def all(self) -> list[WorkerReport]:
        """Every worker whose heartbeat is fresh, by id."""
        return [report for report in self._known().values() if report is not None]

    def missing(self) -> list[str]:
        """Workers that have reported once and no longer do."""
        return [worker for worker, report in self._known().items() if report is None]

    def forget(self, worker: str) -> None:
        """Drop a worker and its queue, after its jobs were taken from it."""
        with store_errors():
            pipe = self._server.redis.pipeline()
            pipe.srem(keys.WORKERS, worker)
            pipe.delete(keys.worker(worker), keys.queue(worker))
            pipe.execute()

    def lead(self, role: str, token: str, lease_s: float) -> bool:
        """Take or keep a role; whether this token holds it now."""
        return bool(self._server.run("leader", [role, token, int(lease_s * 1000)]))

    def is_led(self, role: str) -> bool:
        """Whether some process holds the role."""
        with store_errors():
            return bool(self._server.redis.exists(keys.leader(role)))

    def resign(self, role: str, token: str) -> None:
        """Give the role up so that the standby takes over at once."""
        self._server.run("resign", [role, token])

    def _known(self) -> dict[str, WorkerReport | None]:
        with store_errors():
            ids: Any = self._server.redis.smembers(keys.WORKERS)
            names = sorted(worker.decode() for worker in ids)
            found: Any = self._server.redis.mget([keys.worker(n) for n in names]) if names else []
        return {
            name: WorkerReport.decode(data) if data else None
            for name, data in zip(names, found, strict=True)
        }
