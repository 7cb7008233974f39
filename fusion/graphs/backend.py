"""What captured runs need of a device: `fusion.graphs.cuda.CudaBackend` serves GPUs."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fusion.strategies.choice import Choice

# One member's run on buffers that stay: it takes nothing and gives its outputs.
Body = Callable[[], list[Tensor]]


class Captured(Protocol):
    """Recorded work on fixed addresses."""

    @property
    def bytes(self) -> int:
        """Measured device bytes that end with it."""

    def replay(self) -> None:
        """Queue the work on the current stream."""

    def mark_used(self) -> None:
        """Note that the current stream may still be at it, or read what it gave."""

    def close(self) -> None:
        """Free it, once the last use is done."""


class Recording(NamedTuple):
    """What a capture gives."""

    captured: Captured
    outputs: list[list[Tensor]]  # per body; they hold values after a replay, until the next


class Backend(Protocol):
    """Records work of one device. One thread at a time, and nothing else may run meanwhile."""

    @property
    def device(self) -> torch.device:
        """Where buffers are."""

    def capture(self, bodies: Sequence[Body]) -> Recording:
        """Record the bodies so that they run side by side; raises CaptureError."""

    def assemble(self, parts: Sequence[Captured]) -> Captured:
        """Parts side by side as one, nothing captured anew; they must outlive it.

        Raises CaptureError.
        """

    def seconds(self, run: Callable[[], object]) -> float:
        """How long it takes until the device is done."""


def race(
    ways: Mapping[str, Callable[[], object]], seconds: Callable[[Callable[[], object]], float]
) -> Choice:
    """Let the ways run in turn until it is settled which is the fastest; the first is the default.

    The trials and the margin are those of runs that jobs wait for.
    """
    choice = Choice(list(ways))
    while not choice.is_settled:
        name = choice.name()
        choice.record(name, seconds(ways[name]))
    return choice
