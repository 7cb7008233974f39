"""An eager function as a slot: resident while its handler host runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from contract.function import WEIGHTS, Function, Manifest
from contract.tensors import TensorSpec
from fusion.device import Device, free_bytes
from fusion.ir import DTYPE_BYTES
from fusion.loaders import MappedWeights, map_tensors
from fusion.page_cache import cached_share
from fusion.places import PAGE_BYTES
from fusion.slots import SlotTable
from fusion.weights import WeightsIndex, read_index
from workers.handlers.hosts import Hosts
from workers.handlers.process import HostProcess
from workers.handlers.starting import START_S, Forward, HostLimits

# beside the tensors of an answer: names and shapes
ANSWER_BYTES = 64 * 1024


class EagerWeights:
    """A function that is resident: its weights mapped, its host running."""

    def __init__(self, mapped: MappedWeights, end: Callable[[], None]) -> None:
        self._mapped = mapped
        self._end = end

    @property
    def tensors(self) -> list[Tensor]:
        """None: the host alone computes with them."""
        return []

    def wait_ready(self) -> None:
        """Nothing to wait for: the host has said that it is ready."""

    def mark_used(self) -> None:
        """Nothing to note: the host is done when it has answered."""

    def close(self) -> bool:
        """End the host, and with it what it has on the device."""
        end, self._end = self._end, _nothing
        end()
        return self._mapped.close()


def _nothing() -> None:
    """It has ended already."""


class EagerLoader:
    """Makes one function resident by starting its host."""

    def __init__(self, function: Function, hosts: Hosts, device: Device, slots: SlotTable) -> None:
        self._function = function
        self._hosts = hosts
        self._device = device
        self._slots = slots

    def slot_bytes(self, index: WeightsIndex) -> int:
        """Whole pages of the file: the host maps them on a CPU, and copies them to a GPU."""
        return -(-index.file_bytes // PAGE_BYTES) * PAGE_BYTES

    def free_bytes(self) -> int | None:
        """None: the table's own loader measures the device."""
        return None

    def host_share(self, path: Path) -> float:
        """What the page cache has of it."""
        return cached_share(path)

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> EagerWeights:
        """Map the file and start the host; raises WeightsError and FuseboxError."""
        mapped = map_tensors(path, index, is_verified)
        ref, context_bytes = self._function.ref, 0

        def end() -> None:
            self._hosts.end(ref)
            self._slots.refund(context_bytes)

        try:
            before_bytes = self._free_device_bytes()
            self._hosts.start(self._function)
            taken_bytes = before_bytes - self._free_device_bytes() - index.data_bytes
            self._slots.charge(max(0, taken_bytes))
            context_bytes = max(0, taken_bytes)
        except BaseException:
            self._hosts.end(ref)
            mapped.close()
            raise
        return EagerWeights(mapped, end)

    def _free_device_bytes(self) -> int:
        """On a GPU; the libraries in a host's memory count no more than those in the worker's."""
        return free_bytes(self._device) if self._device.kind == "cuda" else 0


class Opening(NamedTuple):
    """How hosts of eager functions are started on this worker."""

    artifacts: Path
    limits: HostLimits
    device: Device
    threads: int
    budget_bytes: int

    def open(self, function: Function) -> HostProcess:
        """Start the host of a function; raises WeightsError and OSError."""
        folder = self.artifacts / function.digest
        index = read_index(folder / WEIGHTS)
        forward = Forward(
            folder / WEIGHTS,
            [[*entry[:5]] for entry in index.entries],
            index.data_offset,
            index.file_bytes,
            "cpu" if self.device.kind == "cpu" else "cuda:0",
            visible_device(self.device),
            self.threads,
        )
        limits = self.limits_of(function.manifest, index)
        return HostProcess(folder, function.manifest.inputs, limits, forward)

    def limits_of(self, manifest: Manifest, index: WeightsIndex) -> HostLimits:
        """More than a hook's, and never more than the operator allows, whatever a manifest says."""
        rows, limits = manifest.max_batch, self.limits
        activation_bytes = min(manifest.activation_bytes_at(rows), self.budget_bytes)
        answer_bytes = ANSWER_BYTES + sum(map(_row_bytes, manifest.outputs)) * rows
        return limits._replace(
            # load() makes the weights once more, until they are replaced by the file's
            memory_bytes=limits.memory_bytes + 2 * index.file_bytes + activation_bytes,
            reply_bytes=max(limits.reply_bytes, min(answer_bytes, limits.payload_bytes)),
            start_s=START_S,
        )


def visible_device(device: Device) -> str:
    """CUDA_VISIBLE_DEVICES that shows this device alone; "" for a CPU."""
    if device.kind == "cpu":
        return ""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(device.ordinal) if shown is None else shown.split(",")[device.ordinal].strip()


def _row_bytes(spec: TensorSpec) -> int:
    return DTYPE_BYTES[spec.dtype] * prod(1 if size is None else size for size in spec.shape)
