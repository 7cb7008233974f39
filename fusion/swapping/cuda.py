"""Copies to a GPU: one stream of their own, events as marks."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from fusion.swapping.backend import Mark

# While a graph is captured no other thread may take memory from the device: torch could not free
# what it keeps for reuse, and would fail.
DEVICE_TURN = threading.Lock()


class CudaCopies:
    """Serves one GPU. Touches CUDA at the first call, not when it is made."""

    def __init__(self, ordinal: int) -> None:
        self._device = torch.device("cuda", ordinal)
        self._lock = threading.Lock()
        self._made: torch.cuda.Stream | None = None

    def device_memory(self, bytes_: int) -> Tensor:
        """[bytes] uint8, device; for as long as it is held."""
        with DEVICE_TURN:
            return torch.empty(bytes_, dtype=torch.uint8, device=self._device)

    def host_memory(self, bytes_: int) -> Tensor:
        """[bytes] uint8, pinned; torch takes the next power of two, and whole pages."""
        with DEVICE_TURN, torch.cuda.device(self._device):
            return torch.empty(bytes_, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Queue a copy; of plain bytes it is one transfer, and takes no memory."""
        with torch.cuda.stream(self._stream()):
            target.copy_(source, non_blocking=True)

    def mark(self, is_timed: bool = False) -> torch.cuda.Event:
        """After all copies that were queued."""
        return _after(self._stream(), is_timed)

    def seconds_between(self, first: Mark, last: Mark) -> float:
        """From one timed event that is reached to another."""
        milliseconds: float = _event(first).elapsed_time(_event(last))
        return milliseconds / 1e3

    def mark_use(self) -> torch.cuda.Event:
        """After all that the calling thread's current stream has queued."""
        return _after(torch.cuda.current_stream(self._device))

    def wait(self, mark: Mark) -> None:
        """The current stream goes on after the mark; the host does not wait."""
        torch.cuda.current_stream(self._device).wait_event(_event(mark))

    def hold_back(self, mark: Mark) -> None:
        """The copy stream goes on after the mark; the host does not wait."""
        self._stream().wait_event(_event(mark))

    def free_bytes(self) -> int:
        """Free on the device, and what torch holds there for reuse."""
        free_bytes, _ = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return free_bytes + held

    def _stream(self) -> torch.cuda.Stream:
        """One for its life: torch hands its 32 streams out in turn, so new ones alias.

        All copies are on it, so that a copy that was held back holds back those behind it: memory
        that others used is never written too early, whoever writes there next.
        """
        with self._lock:
            if self._made is None:
                self._made = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch's
            return self._made


def _event(mark: Mark) -> torch.cuda.Event:
    assert isinstance(mark, torch.cuda.Event), "marks of one backend stay with it"
    return mark


def _after(stream: torch.cuda.Stream, is_timed: bool = False) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=is_timed)  # type: ignore[no-untyped-call]  # torch's
    event.record(stream)
    return event
