"""What swapping needs of a device: `fusion.swapping.cuda.CudaCopies` serves GPUs.

Copies are queued one after another, in an order of their own. Computation runs in other orders, and
is told what to wait for by marks; the host waits for none of both, but where it says so.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Mark(Protocol):
    """A moment in an order of work: reached once all that was queued before it is done."""

    def query(self) -> bool:
        """Whether it is reached."""

    def synchronize(self) -> None:
        """Wait for it, on the host."""


class Copies(Protocol):
    """Memory of one device and of its host, and copies between them. Any thread may call."""

    def device_memory(self, bytes_: int) -> Tensor:
        """[bytes] uint8, device; for as long as it is held. Raises torch.OutOfMemoryError."""

    def host_memory(self, bytes_: int) -> Tensor:
        """[bytes] uint8, host, which the device reads by itself; begins on a page."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Queue a copy: both [bytes] uint8, one on the device and one from `host_memory`."""

    def mark(self, is_timed: bool = False) -> Mark:
        """After all copies that were queued."""

    def seconds_between(self, first: Mark, last: Mark) -> float:
        """On the device, from one timed mark that is reached to another."""

    def mark_use(self) -> Mark:
        """After all that the calling thread's computation has queued."""

    def wait(self, mark: Mark) -> None:
        """What the calling thread computes next comes after the mark."""

    def hold_back(self, mark: Mark) -> None:
        """Copies that are queued from now on come after the mark."""

    def free_bytes(self) -> int | None:
        """Measured free bytes of the device, what torch keeps for reuse included."""
