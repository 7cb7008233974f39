"""The parts of a worker, put together; the first module here that imports torch."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import NamedTuple

import torch

from contract import keys
from contract.function import Function
from contract.heap import settle_heap
from contract.log import Log
from contract.settings import Settings
from contract.store import Store
from contract.supervision import Word, tell
from contract.tracing import Tracing, open_tracing
from fusion.cache import DagCache
from fusion.dag import FusedDag
from fusion.device import (
    Device,
    default_budget_bytes,
    device_identity,
    device_name,
    parse_device,
)
from fusion.measurements import Measurements
from fusion.members import DagKey
from fusion.memory import limit_bytes
from fusion.slots import SlotRequest, SlotTable, open_slots
from fusion.strategies.lanes import Lanes
from workers import prefetching
from workers.blocks import Blocks
from workers.capturing import Capturing, open_graphs, reclaiming
from workers.ceilings import Ceilings
from workers.celery_app import make_app
from workers.claims import Claims
from workers.compiling import Compiling, file_name, folder_for
from workers.compute import Computer, DeviceTurn
from workers.consuming import Drain, Occasions, Turns, consume, make_step, register
from workers.dags import Dags
from workers.eager import EagerRuns
from workers.eager_slots import Opening
from workers.executor import Executor, Patience
from workers.fetching import open_fetching
from workers.foresight import Foresight
from workers.gauge import Gauge
from workers.handlers.hosts import Hosts
from workers.handlers.log_writer import LogWriter
from workers.handlers.progress_writer import ProgressWriter
from workers.handlers.starting import HostLimits
from workers.heartbeat import Heartbeat, Rhythm
from workers.leaving import Leaving
from workers.library import Library, Loaded
from workers.mark import MemoryMark
from workers.measuring import Measuring
from workers.paces import Paces
from workers.prefetching import Prefetcher
from workers.removed import Removed
from workers.replanning import Replanning
from workers.report import Reporter
from workers.spans import JobSpans
from workers.speed import find_speed
from workers.stage import Stager
from workers.tiers import Tiers
from workers.wanted import Parts as WantParts
from workers.wanted import Wants
from workers.warmup import warm_groups, warm_up
from workers.watchdog import Actions, Look, Watchdog

log = Log("worker")
# what hooks return may be larger than the body it came from
REPLY_PER_BODY = 4
DAG_SHARE = 0.1
# of the RAM, for pinned copies of weights of all workers
HOST_SHARE = 0.25
# of the budget, for captured graphs
GRAPH_SHARE = 0.2
# between two looks for functions that are removed
REMOVED_S = 5.0
# between two looks for new functions that will run in blocks
FORESIGHT_S = 2.0
FUNCTIONS_KEPT = 4096
# a thread for every function whose hooks run or are waited for; started when needed
HOOK_THREADS = 256


class Parts(NamedTuple):
    """What a worker is made of."""

    id: str
    claims: Claims
    executor: Executor
    heartbeat: Heartbeat
    gauge: Gauge
    leaving: Leaving
    warm: Callable[[], int]
    learned: Callable[[], None]
    prefetcher: Prefetcher
    wants: Wants
    tracing: Tracing | None = None


def work(settings: Settings, store: Store, name: Callable[[str], str]) -> None:
    """Run groups until drained."""
    device = parse_device(settings.device)
    threads = settings.compute_threads or torch.get_num_threads()
    lanes = make_lanes(device, threads)
    warm_up(torch.device(str(device)), threads, lanes, settings.warm_up_s)
    parts = wire(settings, store, device, lanes, name(str(device)))
    queue = keys.queue(parts.id)
    drain, turns = Drain(queue, parts.heartbeat, parts.claims), Turns()
    watchdog = _watchdog(settings, store, parts, drain, turns)
    log.info("warmed", groups=parts.warm())
    app = make_app(settings)
    register(app, parts.executor.run_group)
    settle_heap()
    log.info("ready", worker=parts.id, device=device, queue=queue)
    occasions = Occasions(parts.gauge.set_baseline, _say_ready, turns.turn)
    watchdog.start()
    stop_prefetching = prefetching.start(parts.prefetcher, store.server, parts.id)
    stop_wants = parts.wants.start()
    with drain.on_signals():
        consume(app, queue, settings.places, make_step(parts.heartbeat, drain, occasions))
    stop_prefetching()
    stop_wants()
    parts.leaving.drained()
    parts.learned()
    if parts.tracing is not None:
        parts.tracing.close()
    watchdog.stop()


def wire(
    settings: Settings, store: Store, device: Device, lanes: Lanes | None, worker: str
) -> Parts:
    """Put a worker together; nothing is resident and nothing runs yet."""
    budget_bytes = settings.memory_budget_bytes or default_budget_bytes(device)
    slots = open_slots(
        device,
        budget_bytes,
        host_budget_bytes=host_budget_bytes(settings, limit_bytes()),
        eviction=settings.eviction,
    )
    cache: DagCache[DagKey, FusedDag] = DagCache(
        int(budget_bytes * DAG_SHARE), slots.charge, slots.refund
    )
    graphs = open_graphs(device, int(budget_bytes * GRAPH_SHARE), slots)
    slots.reclaim_from(reclaiming(cache, graphs))
    claims = Claims()
    logs = LogWriter(store.telemetry)
    artifacts, limits = settings.artifacts.resolve(), host_limits(settings)
    progress = ProgressWriter(store.events)
    hosts = Hosts(
        artifacts, limits, settings.handler_idle_s, logs.write, write_progress=progress.write
    )
    threads = settings.compute_threads or torch.get_num_threads()
    open_host = Opening(artifacts, limits, device, threads, budget_bytes).open
    eager_hosts = Hosts(artifacts, limits, inf, logs.write, open_host)
    identity = device_identity(device)
    measurements = _measurements(settings.data, identity)
    ceilings = Ceilings(measurements)
    library = Library(artifacts, device.kind, measurements)
    dags = Dags(
        cache, torch.device(str(device)), lanes, measurements.group, library.program, graphs
    )
    measuring = Measuring(measurements, library, cache.entries, dags.hot, time.monotonic)
    compiling = Compiling(
        folder_for(settings.data.resolve(), identity),
        lambda: [*library.programs(), *dags.merged_programs()],
        settings.compile_after if device.kind == "cpu" else 0,
        lanes.count if lanes else 1,
    )
    gauge = Gauge(slots.stats, settings.heartbeat_s)
    tiers = Tiers(slots, library)
    reporter = Reporter(
        id=worker,
        device=str(device),
        device_name=device_name(device),
        places=settings.places,
        threads=lanes.count if lanes else 1,
        started_at_s=time.time(),
        gauge=gauge,
        is_busy=lambda: turn.is_taken,
        sizes=lambda keys: blocks.slot_bytes(library.file_bytes(keys)),
        dags=cache.stats,
        strategies=dags.strategies,
        measured=dags.measured,
        lanes=dags.lanes,
        tiers=lambda: measuring.tiers() | eager.measured() | blocks.measured(),
        groups=claims.groups,
        eviction=settings.eviction,
        memory=tiers.memory,
        row_ceilings=ceilings.shown,
        blocks=lambda: blocks.reports(),
        prefetches=lambda: prefetcher.stats(),
        wanted=lambda: wants.reports(),
        speed=find_speed(
            measurements, torch.device(str(device)), threads, float(settings.warm_up_s)
        ),
    )
    # versions are immutable, so what was read once holds
    known = lru_cache(FUNCTIONS_KEPT)(store.functions.get_accepted)
    fetching = open_fetching(
        settings, lambda: {*slots.stats().resident, *map(str, [*hosts.pids(), *eager_hosts.pids()])}
    )
    find = fetching.finding(known) if fetching else known
    blocks = Blocks(slots, library.known, Replanning(measurements))
    prefetcher = Prefetcher(slots, library, find, fitted=blocks.fitted)
    paces = Paces()
    stager = Stager(known, hosts, ThreadPoolExecutor(HOOK_THREADS, "hooks"), paces, fetching)
    turn = DeviceTurn(gauge.measure_if_due)
    eager = EagerRuns(library, slots, eager_hosts, claims, turn, device)
    wants = Wants(
        store.wanted.all, WantParts(slots, library, find, _slots_of(eager, blocks, library))
    )
    computer = Computer(library, slots, dags, claims, turn, eager.run, ceilings, blocks, prefetcher)
    tracing = open_tracing(settings, "fusebox-worker")
    patience = Patience(settings.lease_s, settings.handler_timeout_s)
    executor = Executor(
        worker, store, claims, stager, computer, patience,
        ThreadPoolExecutor(HOOK_THREADS, "late"), lanes.count if lanes else 1,
        None if tracing is None else JobSpans(tracing, worker),
    )  # fmt: skip
    rhythm = Rhythm(settings.heartbeat_s, settings.lease_s)
    mark = MemoryMark(gauge, budget_bytes, settings.worker_memory_mark_bytes, _ask_for_replacement)
    removed = Removed(
        store.functions,
        slots,
        library,
        REMOVED_S,
        [known.cache_clear, paces.clear, eager.forget, blocks.forget],
    )
    chores = [
        _evict_idle(slots), removed.evict, lambda: hosts.stop_idle(time.monotonic()), mark.look,
        compiling.look, measuring.look, tiers.look, wants.look,
    ]  # fmt: skip
    if device.kind == "cpu" and fetching is None:

        def plan(function: Function) -> Loaded:
            return blocks.fitted(function, library.get(function))

        chores.append(Foresight(store.functions, budget_bytes, plan, FORESIGHT_S).look)
    if fetching is not None:
        chores.append(fetching.look)
    capturing = None
    if graphs is not None:
        capturing = Capturing(graphs, dags, library, slots, computer, find, lambda: claims.is_idle)
        chores.append(capturing.look)
    heartbeat = Heartbeat(store, claims, rhythm, reporter.report, chores)
    leaving = Leaving(worker, store, executor, (hosts, eager_hosts), logs, settings.max_attempts)

    def warm() -> int:
        return warm_groups(measurements.hot(), find, library, dags, settings.warm_up_s)

    def learned() -> None:
        compiling.stop()
        if capturing is not None:
            capturing.stop()
        if fetching is not None:
            fetching.stop()
        measuring.save()

    return Parts(
        worker,
        claims,
        executor,
        heartbeat,
        gauge,
        leaving,
        warm,
        learned,
        prefetcher,
        wants,
        tracing,
    )


def _slots_of(
    eager: EagerRuns, blocks: Blocks, library: Library
) -> Callable[[Function], SlotRequest]:
    def slot_of(function: Function) -> SlotRequest:
        if function.manifest.is_eager:
            return eager.request(function)
        return blocks.fitted(function, library.get(function)).slot

    return slot_of


def _measurements(data: Path, identity: str) -> Measurements:
    path = data.resolve() / "measured" / f"{file_name(identity)}.json"
    measurements = Measurements(path, identity)
    if measurements.problem:
        log.warning("measurements_not_read", reason=measurements.problem)
    return measurements


def make_lanes(device: Device, threads: int) -> Lanes | None:
    """A lane per thread to run members side by side; a GPU has streams instead."""
    return Lanes(threads) if device.kind == "cpu" and threads > 1 else None


def host_budget_bytes(settings: Settings, ram_bytes: int) -> int:
    """For a worker's pinned copies of weights, of which a CPU has none."""
    if settings.host_budget_bytes is not None:
        return settings.host_budget_bytes
    return int(ram_bytes * HOST_SHARE) // max(1, settings.workers)


def host_limits(settings: Settings) -> HostLimits:
    """What a handler host may use."""
    return HostLimits(
        settings.handler_timeout_s,
        settings.handler_memory_bytes,
        settings.handler_memory_bytes // 4,
        settings.max_body_bytes * REPLY_PER_BODY,
        settings.handler_reach,
        # artifacts of all functions, and the embedded store with its socket
        (str(settings.data.resolve()), str(settings.socket_path)),
    )


def _evict_idle(slots: SlotTable) -> Callable[[], None]:
    def evict() -> None:
        slots.evict_idle(time.monotonic())

    return evict


def _watchdog(
    settings: Settings, store: Store, parts: Parts, drain: Drain, turns: Turns
) -> Watchdog:
    def look() -> Look:
        # first what the store says: a group that begins meanwhile is not missed
        given = {group for group, worker in store.queue.groups().items() if worker == parts.id}
        begun, held, overdue = parts.claims.under_way(time.time())
        return Look(turns.count, begun, frozenset(given), held, overdue)

    def stay(within_s: float) -> None:
        faulthandler.dump_traceback_later(within_s, exit=True)

    rest = faulthandler.cancel_dump_traceback_later
    actions = Actions(look, parts.leaving.at_once, stay, rest, drain.asked_s)
    return Watchdog(actions, settings.watchdog_s, settings.drain_s)


def _say_ready() -> None:
    tell(os.environ, Word.READY)


def _ask_for_replacement() -> None:
    """Whoever started it brings another first; where nobody listens, it drains and leaves."""
    if not tell(os.environ, Word.REPLACE):
        os.kill(os.getpid(), signal.SIGTERM)
