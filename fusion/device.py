"""The device a worker serves: its name and its memory, measured without touching CUDA.

GPUs are asked through NVML, which makes no CUDA context, so a parent process may ask and fork.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from fusion.errors import FusionError
from fusion.memory import available_bytes, limit_bytes

BUDGET_SHARE = 0.8  # the rest is the context's, the libraries' and other processes'


@dataclass(frozen=True, slots=True)
class Device:
    """One CPU or one GPU; `ordinal` counts the GPUs that CUDA_VISIBLE_DEVICES shows."""

    kind: Literal["cpu", "cuda"]
    ordinal: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.ordinal}"


def parse_device(setting: str) -> Device:
    """A device from "auto", "cpu", "cuda" or "cuda:<n>"; auto is the first GPU torch can use.

    Raises FusionError for any other text and for a GPU that is not there.
    """
    if setting == "cpu":
        return Device("cpu")
    if setting == "auto":
        return Device("cuda") if _is_cuda_build() and _gpu_count() else Device("cpu")
    kind, _, ordinal = setting.partition(":")
    # isdecimal alone admits other scripts' digits
    is_ordinal = ordinal.isascii() and ordinal.isdecimal()
    if kind != "cuda" or not (is_ordinal or setting == "cuda"):
        raise FusionError(f"device is {setting!r}, expected auto, cpu, cuda or cuda:<n>")
    device = Device("cuda", int(ordinal or 0))
    if not _is_cuda_build():
        raise FusionError(f"device is {setting!r}, and this torch is built without CUDA")
    if device.ordinal >= _gpu_count():
        raise FusionError(f"device is {setting!r}, and {_gpu_count()} GPUs are visible")
    return device


def total_bytes(device: Device) -> int:
    """The device's memory; on a CPU the least of RAM and the control groups' limits."""
    if device.kind == "cpu":
        return limit_bytes()
    with _gpu(device) as (nvml, handle):
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)


def free_bytes(device: Device) -> int:
    """What could still be allocated, by any process."""
    if device.kind == "cpu":
        return available_bytes()
    with _gpu(device) as (nvml, handle):
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).free)


def default_budget_bytes(device: Device) -> int:
    """The budget where none is set: 80 % of the device's memory."""
    return int(total_bytes(device) * BUDGET_SHARE)


def device_name(device: Device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the processor, as its maker writes it."""
    if device.kind == "cuda":
        with _gpu(device) as (nvml, handle):
            return str(nvml.nvmlDeviceGetName(handle))
    for line in cpuinfo.read_text().splitlines():
        field, _, value = line.partition(":")
        if field.strip() == "model name":
            return value.strip()
    return os.uname().machine  # some architectures name no model


def device_identity(device: Device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Devices of equal identity run the same machine code at the same speed, with this torch.

    The model's name, torch's version, and on CPU a digest of what the processor can do.
    """
    from importlib.metadata import version  # torch itself need not be loaded

    parts = [device_name(device, cpuinfo), f"torch {version('torch')}"]
    if device.kind == "cpu":
        lines = cpuinfo.read_text().splitlines()
        # x86 and ARM call it differently
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        abilities = f"{os.uname().machine} {flags} {len(os.sched_getaffinity(0))}"
        parts.append(hashlib.sha256(abilities.encode()).hexdigest()[:12])
    return ", ".join(parts)


def visible_gpus(count: int, setting: str | None) -> list[int | str]:
    """NVML indices or UUIDs in CUDA's order, by CUDA_VISIBLE_DEVICES; an invalid one ends the list.

    NVML orders by PCI bus; CUDA agrees where all GPUs are alike or CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if setting is None:
        return list(range(count))
    visible: list[int | str] = []
    for text in (part.strip() for part in setting.split(",")):
        if text.startswith(("GPU-", "MIG-")):
            visible.append(text)
        elif text.isascii() and text.isdecimal() and int(text) < count:
            visible.append(int(text))
        else:
            break
    return visible


def _is_cuda_build() -> bool:
    import torch  # parsing "cpu" needs none

    return torch.version.cuda is not None


def _gpu_count() -> int:
    """Visible GPUs; none where there is no NVML or no driver."""
    try:
        with _nvml() as nvml:
            return len(_visible(nvml))
    except FusionError:
        return 0


def _visible(nvml: ModuleType) -> list[int | str]:
    return visible_gpus(nvml.nvmlDeviceGetCount(), os.environ.get("CUDA_VISIBLE_DEVICES"))


@contextmanager
def _nvml() -> Iterator[ModuleType]:
    try:
        import pynvml  # a CPU worker need not have it

        pynvml.nvmlInit()
    except ImportError as error:
        raise FusionError("GPUs are measured through NVML: install nvidia-ml-py") from error
    except pynvml.NVMLError as error:
        raise FusionError(f"NVML does not start: {error}") from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise FusionError(f"NVML: {error}") from error
    finally:
        pynvml.nvmlShutdown()


@contextmanager
def _gpu(device: Device) -> Iterator[tuple[ModuleType, Any]]:
    with _nvml() as nvml:
        visible = _visible(nvml)
        if device.ordinal >= len(visible):
            raise FusionError(f"{device} is not there: {len(visible)} GPUs are visible")
        gpu = visible[device.ordinal]
        by_index = isinstance(gpu, int)
        find = nvml.nvmlDeviceGetHandleByIndex if by_index else nvml.nvmlDeviceGetHandleByUUID
        yield nvml, find(gpu)
