"""The parts of a worker, put together; the first module here that imports torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import NamedTuple

import torch

from contract import keys
from contract.errors import StoreUnavailable
from contract.heap import settle_heap
from contract.log import Log
from contract.settings import Settings
from contract.store import Store
from fusion.cache import DagCache
from fusion.dag import DagKey, FusedDag
from fusion.device import Device, default_budget_bytes, device_name, parse_device
from fusion.slots import SlotTable, open_slots
from fusion.strategies.lanes import Lanes
from workers.celery_app import make_app
from workers.claims import Claims
from workers.compute import Computer
from workers.consuming import Drain, consume, make_step, register
from workers.dags import Dags
from workers.executor import Executor, Patience
from workers.gauge import Gauge
from workers.handlers.hosts import Hosts
from workers.handlers.log_writer import LogWriter
from workers.handlers.process import HostLimits
from workers.heartbeat import Heartbeat, Rhythm
from workers.library import Library
from workers.report import Reporter
from workers.stage import Stager
from workers.warmup import warm_up

log = Log("worker")
LOG_CLOSE_S = 1.0
# what hooks return may be larger than the body it came from
REPLY_PER_BODY = 4
DAG_SHARE = 0.1
FUNCTIONS_KEPT = 4096


class Parts(NamedTuple):
    """What a worker is made of."""

    id: str
    device: Device
    claims: Claims
    hosts: Hosts
    logs: LogWriter
    executor: Executor
    heartbeat: Heartbeat
    gauge: Gauge


def work(settings: Settings, store: Store, name: Callable[[str], str]) -> None:
    """Run groups until drained."""
    device = parse_device(settings.device)
    threads = settings.compute_threads or torch.get_num_threads()
    lanes = make_lanes(device, threads)
    warm_up(torch.device(str(device)), threads, lanes)
    parts = wire(settings, store, device, lanes, name(str(device)))
    queue = keys.queue(parts.id)
    drain = Drain(queue, parts.heartbeat, parts.claims, settings.drain_s, partial(_abandon, parts))
    app = make_app(settings)
    register(app, parts.executor.run_group)
    settle_heap()
    log.info("ready", worker=parts.id, device=device, queue=queue)
    with drain.on_signals():
        consume(
            app, queue, settings.places, make_step(parts.heartbeat, drain, parts.gauge.set_baseline)
        )
    _hand_back(parts, store)
    _close(parts)


def wire(
    settings: Settings, store: Store, device: Device, lanes: Lanes | None, worker: str
) -> Parts:
    """Put a worker together; nothing is resident and nothing runs yet."""
    budget_bytes = settings.memory_budget_bytes or default_budget_bytes(device)
    slots = open_slots(device, budget_bytes)
    cache: DagCache[DagKey, FusedDag] = DagCache(
        int(budget_bytes * DAG_SHARE), slots.charge, slots.refund
    )
    slots.reclaim_from(cache.shrink)
    claims = Claims()
    logs = LogWriter(store.telemetry)
    hosts = Hosts(
        settings.artifacts.resolve(), host_limits(settings), settings.handler_idle_s, logs.write
    )
    library = Library(settings.artifacts.resolve())
    dags = Dags(cache, torch.device(str(device)), lanes)
    gauge = Gauge(slots.stats, settings.heartbeat_s)
    reporter = Reporter(
        id=worker,
        device=str(device),
        device_name=device_name(device),
        places=settings.places,
        started_at_s=time.time(),
        gauge=gauge,
        is_busy=lambda: computer.is_busy,
        sizes=library.file_bytes,
        dags=cache.stats,
        strategies=dags.strategies,
        groups=claims.groups,
    )
    # versions are immutable, so what was read once holds
    find = lru_cache(FUNCTIONS_KEPT)(store.functions.get_accepted)
    stager = Stager(find, hosts, ThreadPoolExecutor(settings.group_functions, "hooks"))
    computer = Computer(library, slots, dags, claims, gauge.measure_if_due)
    patience = Patience(settings.lease_s, settings.handler_timeout_s)
    executor = Executor(worker, store, claims, stager, computer, patience)
    rhythm = Rhythm(settings.heartbeat_s, settings.lease_s)
    chores = [_evict_idle(slots), lambda: hosts.stop_idle(time.monotonic())]
    heartbeat = Heartbeat(store, claims, rhythm, reporter.report, chores)
    return Parts(worker, device, claims, hosts, logs, executor, heartbeat, gauge)


def make_lanes(device: Device, threads: int) -> Lanes | None:
    """A lane per thread to run members side by side; a GPU has streams instead."""
    return Lanes(threads) if device.kind == "cpu" and threads > 1 else None


def host_limits(settings: Settings) -> HostLimits:
    """What a handler host may use."""
    return HostLimits(
        settings.handler_timeout_s,
        settings.handler_memory_bytes,
        settings.handler_memory_bytes // 4,
        settings.max_body_bytes * REPLY_PER_BODY,
    )


def _evict_idle(slots: SlotTable) -> Callable[[], None]:
    def evict() -> None:
        slots.evict_idle(time.monotonic())

    return evict


def _hand_back(parts: Parts, store: Store) -> None:
    """Give back what was claimed for this worker and not started."""
    try:
        handed_back = store.queue.hand_back(parts.id)
        store.workers.forget(parts.id)
        log.info("drained", handed_back=handed_back)
    except StoreUnavailable:
        log.warning("hand_back_failed")


def _close(parts: Parts) -> None:
    parts.executor.stop()
    parts.hosts.stop()
    parts.logs.close(LOG_CLOSE_S)


def _abandon(parts: Parts) -> None:
    """End the process though a group hangs: no thread can be stopped from outside.

    Its jobs are not handed back: their leases run out and count as attempts, so that a job which
    hangs every worker fails in the end.
    """
    log.warning("drain_incomplete")
    _close(parts)
    os._exit(1)
