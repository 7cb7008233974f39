"""Weights on a GPU: file -> pinned host copy -> one device allocation, on a stream of its own."""

import os
import threading
from pathlib import Path

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.loaders import views
from fusion.lru import ByteLru
from fusion.weights import WeightsIndex, check_digests

# CUDACachingAllocator: blocks are multiples of 512 bytes, segments above 1 MiB of 2 MiB
SMALL_BLOCK_BYTES = 512
SMALL_LIMIT_BYTES = 2**20
LARGE_BLOCK_BYTES = 2 * 2**20

# While a graph is captured no other thread may take memory from the device: torch could not free
# what it keeps for reuse, and would fail.
DEVICE_TURN = threading.Lock()


class CudaWeights:
    """The weights of one function in one device allocation."""

    def __init__(self, data: Tensor, index: WeightsIndex, ready: torch.cuda.Event) -> None:
        self._tensors = views(data, index)
        self._device = data.device
        self._ready = ready
        # by stream: several groups may read one function's weights at once
        self._last_uses: dict[int, torch.cuda.Event] = {}

    @property
    def tensors(self) -> list[Tensor]:
        """Views in file order, device; valid on a stream after `wait_ready` on it."""
        return self._tensors

    def wait_ready(self) -> None:
        """Make the current stream wait for the copy; the host does not wait."""
        torch.cuda.current_stream(self._device).wait_event(self._ready)

    def mark_used(self) -> None:
        """Record the current stream's work so far as the last use on it."""
        stream = torch.cuda.current_stream(self._device)
        self._last_uses.setdefault(stream.cuda_stream, _event()).record(stream)

    def close(self) -> bool:
        """Free the allocation once the copy and every last use are done.

        The allocator knows only of the copy stream, on which it would hand the bytes out again.
        """
        self._ready.synchronize()
        for event in self._last_uses.values():
            event.synchronize()
        self._tensors = []
        return True


class HostCopies:
    """Pinned copies of weights files, LRU under a budget of host bytes."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._copies: ByteLru[Path, Tensor] = ByteLru()

    def get(self, path: Path, index: WeightsIndex, is_verified: bool) -> Tensor:
        """The file's data, [data_bytes] uint8, pinned host; read and checked once while kept."""
        with self._lock:
            if path in self._copies:
                self._copies.touch(path)
                return self._copies[path]
            evicted = self._make_room(pinned_bytes(index.data_bytes))
        if evicted:
            _return_host_pages()
        copy = _read_pinned(path, index)
        if not is_verified:
            _check(path, copy, index)
        with self._lock:
            self._keep(path, copy)
        return copy

    def __contains__(self, path: Path) -> bool:
        with self._lock:
            return path in self._copies

    def _make_room(self, bytes_: int) -> bool:
        shortage = self._copies.bytes + bytes_ - self._budget_bytes
        victims = self._copies.victims(shortage) if shortage > 0 else []
        for victim in victims:
            self._copies.pop(victim)
        return bool(victims)

    def _keep(self, path: Path, copy: Tensor) -> None:
        """Keep `copy` where it fits; torch holds one that does not until the device has it."""
        bytes_ = pinned_bytes(copy.numel())
        if path not in self._copies and self._copies.bytes + bytes_ <= self._budget_bytes:
            self._copies.put(path, copy, bytes_)


class CudaLoader:
    """Serves one GPU. Touches CUDA at the first call, not when it is made."""

    def __init__(self, ordinal: int, host_budget_bytes: int) -> None:
        self._device = torch.device("cuda", ordinal)
        self._host = HostCopies(host_budget_bytes)
        self._lock = threading.Lock()
        self._stream: torch.cuda.Stream | None = None

    def slot_bytes(self, index: WeightsIndex) -> int:
        """What the caching allocator takes from the device for the file's data."""
        small = index.data_bytes <= SMALL_LIMIT_BYTES
        block = SMALL_BLOCK_BYTES if small else LARGE_BLOCK_BYTES
        return -(-index.data_bytes // block) * block

    def free_bytes(self) -> int:
        """Free on the device, and what torch holds there for reuse."""
        free_bytes, _ = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return free_bytes + held

    def host_share(self, path: Path) -> float:
        """All where it has a pinned copy; the page cache does not count: a read is a copy more."""
        return float(path in self._host)

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> CudaWeights:
        """Queue the copy and return; the host waits for the disk, never for the device."""
        host = self._host.get(path, index, is_verified)  # [data_bytes] uint8, pinned host
        stream = self._copy_stream()
        ready = _event()
        with DEVICE_TURN, torch.cuda.stream(stream):
            data = torch.empty(index.data_bytes, dtype=torch.uint8, device=self._device)
            data.copy_(host, non_blocking=True)
            ready.record(stream)
        return CudaWeights(data, index, ready)

    def _copy_stream(self) -> torch.cuda.Stream:
        """One for the loader's life: torch hands its 32 streams out in turn, so new ones alias."""
        with self._lock:
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch's
            return self._stream


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's


def pinned_bytes(bytes_: int) -> int:
    """What torch's pinned allocator takes: the next power of two."""
    return 1 << (bytes_ - 1).bit_length() if bytes_ else 0


def _read_pinned(path: Path, index: WeightsIndex) -> Tensor:
    """Read the data straight into pinned memory; raises WeightsError."""
    host = torch.empty(index.data_bytes, dtype=torch.uint8, pin_memory=True)
    target = host.numpy().data
    try:
        with path.open("rb", buffering=0) as file:
            found_bytes = os.fstat(file.fileno()).st_size
            if found_bytes != index.file_bytes:
                raise WeightsError(f"{path}: {found_bytes} bytes, expected {index.file_bytes}")
            file.seek(index.data_offset)
            done = 0
            while done < index.data_bytes:  # one read gives at most 2 GiB
                count = file.readinto(target[done:])
                if not count:
                    raise WeightsError(f"{path}: ends after {done} of {index.data_bytes} bytes")
                done += count
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    return host


def _check(path: Path, host: Tensor, index: WeightsIndex) -> None:
    try:
        check_digests(host.numpy().data, index)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def _return_host_pages() -> None:
    """Give dropped pinned pages back: torch keeps them for reuse, outside any budget."""
    if hasattr(torch.accelerator, "empty_host_cache"):  # 2.11 has none: they await reuse there
        torch.accelerator.empty_host_cache()
