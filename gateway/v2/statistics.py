"""Triton's statistics extension, from the counters of functions and the reports of workers.

Counters belong to a function, whichever of its versions ran; memory belongs to a version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contract.function import Function, FunctionRef
from contract.job import SETTLED, Status
from contract.store.workers import WorkerReport
from gateway.answer import Answer, json_answer
from gateway.context import Gateway

Record = dict[str, Any]
Counters = Mapping[str, int]
GPU, PINNED, CPU = "GPU", "CPU_PINNED", "CPU"


def show(gateway: Gateway, ref: FunctionRef) -> Answer:
    """GET /v2/models/<model>[/versions/<version>]/stats."""
    return _answer(gateway, [gateway.store.functions.get(ref)])


def show_all(gateway: Gateway) -> Answer:
    """GET /v2/models/stats: the latest version of every function."""
    return _answer(gateway, gateway.store.functions.all())


def _answer(gateway: Gateway, functions: Sequence[Function]) -> Answer:
    names = [function.name for function in functions]
    stats = gateway.store.telemetry.stats(names) if names else {}
    workers = gateway.store.workers.all()
    return json_answer(
        {"model_stats": [_model(each, stats[each.name], workers) for each in functions]}
    )


def _model(function: Function, stats: Counters, workers: Sequence[WorkerReport]) -> Record:
    ref = str(function.ref)
    answered = stats.get(f"jobs:{Status.SUCCEEDED}", 0)
    lost = sum(stats.get(f"jobs:{status}", 0) for status in SETTLED) - answered

    def spent(*stages: str) -> Record:
        return {
            "count": answered,
            "ns": sum(stats.get(f"us:{stage}", 0) for stage in stages) * 1000,
        }

    nothing = {"count": 0, "ns": 0}
    return {
        "name": function.name,
        "version": str(function.version),
        "last_inference": _last_ms(ref, workers),
        "inference_count": stats.get("rows", 0),
        "execution_count": stats.get("groups", 0),
        "inference_stats": {
            "success": spent("answered"),
            # how long failures took is not counted
            "fail": {"count": lost, "ns": 0},
            "queue": spent("queue", "group"),
            "compute_input": spent("hooks", "swap", "build"),
            "compute_infer": spent("compute"),
            # hooks are timed together: those of outputs are in compute_input
            "compute_output": {"count": answered, "ns": 0},
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "response_stats": {},
        # sizes of single batches are not kept
        "batch_stats": [],
        "memory_usage": _memory(ref, workers),
    }


def _last_ms(ref: str, workers: Iterable[WorkerReport]) -> int:
    """When a worker last ran it, Unix milliseconds; 0 where none remembers."""
    found = (worker.memory[ref].used_at_s for worker in workers if ref in worker.memory)
    return int(1000 * max((at_s for at_s in found if at_s is not None), default=0.0))


def _memory(ref: str, workers: Iterable[WorkerReport]) -> list[Record]:
    """Bytes of its weights by tier and device, where there are any."""
    by_place: dict[tuple[str, int], int] = {}
    for worker in workers:
        kind, _, number = worker.device.partition(":")
        is_gpu = kind == "cuda"
        place = (GPU if is_gpu else CPU, int(number or 0))
        by_place[place] = by_place.get(place, 0) + worker.functions.get(ref, 0)
        memory = worker.memory.get(ref)
        # on a CPU the host's copy is the page cache, which the slot maps: the same bytes
        if is_gpu and memory is not None:
            pinned = (PINNED, 0)
            by_place[pinned] = by_place.get(pinned, 0) + memory.host_bytes
    return [
        {"type": kind, "id": number, "byte_size": size}
        for (kind, number), size in sorted(by_place.items())
        if size
    ]
