"""Copies that run late: a backend for tests and dry runs, without a GPU.

As on a GPU nothing is copied when it is queued. A copy runs when the computation or the host waits
for a mark behind it, in the order in which copies were queued; so whoever reads too early, or
writes over a source that is still to be copied, finds wrong values. A copy must not come while a
use of the memory that it writes to has not been waited for.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


class CpuMark:
    """After so many copies; or after a use."""

    def __init__(self, backend: CpuCopies, copies: int | None) -> None:
        self.copies = copies
        self._backend = backend

    def query(self) -> bool:
        return self.copies is None or self._backend.done >= self.copies

    def synchronize(self) -> None:
        self._backend.host_waits += 1
        self._backend.reach(self)


@dataclass
class CpuCopies:
    """`device_bytes` are what the device has; `is_eager` runs each copy at once."""

    device_bytes: int = 1 << 40
    is_eager: bool = False
    # of each copy
    copy_s: float = 0.0
    done: int = 0
    queued: int = 0
    host_waits: int = 0
    # bytes of each `device_memory` and `host_memory`
    device_taken: list[int] = field(default_factory=list)
    host_taken: list[int] = field(default_factory=list)
    copied_bytes: int = 0
    held_back: int = 0
    fails_after: int | None = None
    _waiting: deque[tuple[Tensor, Tensor]] = field(default_factory=deque)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def device_memory(self, bytes_: int) -> Tensor:
        if sum(self.device_taken) + bytes_ > self.device_bytes:
            raise torch.OutOfMemoryError(f"{bytes_} bytes")
        self.device_taken.append(bytes_)
        return torch.full((bytes_,), 0xEE, dtype=torch.uint8)

    def host_memory(self, bytes_: int) -> Tensor:
        self.host_taken.append(bytes_)
        pages = mmap.mmap(-1, bytes_)
        return torch.from_numpy(np.frombuffer(pages, np.uint8))

    def copy(self, target: Tensor, source: Tensor) -> None:
        assert target.numel() == source.numel() > 0
        with self._lock:
            if self.fails_after is not None and self.queued >= self.fails_after:
                raise RuntimeError("the device is gone")
            self._waiting.append((target, source))
            self.queued += 1
            if self.is_eager:
                self._run(self.queued)

    def mark(self, is_timed: bool = False) -> CpuMark:
        return CpuMark(self, self.queued)

    def seconds_between(self, first: CpuMark, last: CpuMark) -> float:
        assert first.query()
        assert last.query()
        return self.copy_s * ((last.copies or 0) - (first.copies or 0))

    def mark_use(self) -> CpuMark:
        return CpuMark(self, None)

    def wait(self, mark: CpuMark) -> None:
        self.reach(mark)

    def hold_back(self, mark: CpuMark) -> None:
        self.held_back += 1

    def free_bytes(self) -> int | None:
        return self.device_bytes - sum(self.device_taken)

    def reach(self, mark: CpuMark) -> None:
        if mark.copies is not None:
            with self._lock:
                self._run(mark.copies)

    def _run(self, until: int) -> None:
        while self.done < until:
            target, source = self._waiting.popleft()
            target.copy_(source)
            self.copied_bytes += source.numel()
            self.done += 1
