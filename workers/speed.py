"""How fast a device is: a product and a copy of fixed sizes, measured for a moment at start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from contract.log import Log
from fusion.measurements import Measurements

log = Log("speed")
# of each of both; the best run counts, for others may have the device meanwhile
WITHIN_S = 0.15
RUNS = 8
# side of the matrices and bytes of the copy: out of the caches, some milliseconds
CPU_SIDE, CUDA_SIDE = 512, 4096
CPU_BYTES, CUDA_BYTES = 32 * 2**20, 512 * 2**20


class Speed(NamedTuple):
    """Float operations and bytes of memory a second; 0 where they were not measured."""

    flops: float = 0.0
    memory_bytes_per_s: float = 0.0


NOT_MEASURED = Speed()


def find_speed(
    measurements: Measurements, device: torch.device, threads: int, within_s: float
) -> Speed:
    """The device's speed, of an earlier start where there was one; none where there is no time."""
    if not within_s:
        return NOT_MEASURED
    known = _decoded(measurements.speed(threads))
    if known is not None:
        return known
    speed = measure(device, min(within_s, WITHIN_S))
    measurements.note_speed(threads, speed._asdict())
    log.info("measured", gflops=round(speed.flops / 1e9, 1),
             gb_per_s=round(speed.memory_bytes_per_s / 1e9, 1))  # fmt: skip
    return speed


@torch.inference_mode()
def measure(device: torch.device, within_s: float) -> Speed:
    """Float32 product of two square matrices; copy of a block, read and written."""
    is_cuda = device.type == "cuda"
    side, size = (CUDA_SIDE, CUDA_BYTES) if is_cuda else (CPU_SIDE, CPU_BYTES)
    one = torch.rand(side, side, device=device)  # [side, side] float32
    product = torch.empty_like(one)
    product_s = _best_s(lambda: torch.mm(one, one, out=product), device, within_s)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _best_s(lambda: target.copy_(source), device, within_s)
    return Speed(2 * side**3 / product_s, 2 * size / copy_s)


def _best_s(run: Callable[[], object], device: torch.device, within_s: float) -> float:
    _timed_s(run, device)  # pages come in, kernels are chosen
    give_up_at_s = time.perf_counter() + within_s
    best_s = _timed_s(run, device)
    for _ in range(RUNS):
        if time.perf_counter() >= give_up_at_s:
            break
        best_s = min(best_s, _timed_s(run, device))
    return best_s


def _timed_s(run: Callable[[], object], device: torch.device) -> float:
    began_s = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began_s


def _decoded(record: Mapping[str, float]) -> Speed | None:
    """What a file holds, if it is a speed."""
    values = [record.get(name) for name in Speed._fields]
    if all(isinstance(value, int | float) and 0 < value < float("inf") for value in values):
        return Speed(*(float(value) for value in values if value is not None))
    return None
