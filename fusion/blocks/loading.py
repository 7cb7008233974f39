"""A function in blocks as what a slot holds: its ring, what stays, and its readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fusion.blocks.body import BlockedGraph
from fusion.blocks.observed import Observed
from fusion.blocks.runner import BlockRunner
from fusion.inspection import check_contents
from fusion.page_cache import cached_share
from fusion.weights import WeightsIndex


class BlockedWeights:
    """A function that is ready to run in blocks; of several graphs one at a time."""

    def __init__(self, bodies: Sequence[BlockedGraph], path: Path, file_bytes: int) -> None:
        self._bodies = bodies
        self._path = path
        self._file_bytes = file_bytes
        self._runner: BlockRunner | None = None
        self._number = -1

    @property
    def tensors(self) -> list[Tensor]:
        """None: no weight is there for longer than its block."""
        return []

    def run(self, number: int, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of the graph of this number."""
        return self.opened(number).run(inputs)

    def latest(self, number: int) -> tuple[BlockedGraph, Observed] | None:
        """The last run of this graph, and its plan; None where none ended since it was opened."""
        if self._runner is None or self._number != number or self._runner.latest is None:
            return None
        return self._bodies[number], self._runner.latest

    def opened(self, number: int) -> BlockRunner:
        """The graph's runner; that of another is closed, for both would not fit."""
        if self._runner is None or self._number != number:
            self.close()
            self._runner = BlockRunner(self._bodies[number], self._path, self._file_bytes)
            self._number = number
        return self._runner

    def wait_ready(self) -> None:
        """Nothing to wait for: each block is waited for when its turn comes."""

    def mark_used(self) -> None:
        """Nothing to note: a CPU is done when a call returns."""

    def close(self) -> bool:
        """End the readers and free the memory; False while a view is held elsewhere."""
        if self._runner is not None and not self._runner.close():
            return False
        self._runner = None
        return True


class BlocksLoader:
    """Makes one function resident in blocks; a CPU's."""

    def __init__(self, bodies: Sequence[BlockedGraph]) -> None:
        self.bodies = tuple(bodies)

    def slot_bytes(self, index: WeightsIndex) -> int:
        """The ring and what stays, of the graph that needs most."""
        return max(body.bytes for body in self.bodies)

    def free_bytes(self) -> int | None:
        """None: the table's own loader measures the device."""
        return None

    def host_share(self, path: Path) -> float:
        """What the page cache has of it."""
        return cached_share(path)

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> BlockedWeights:
        """Read what stays and begin with the first blocks; raises WeightsError."""
        if not is_verified:
            check_contents(path, index)
        weights = BlockedWeights(self.bodies, path, index.file_bytes)
        weights.opened(0)
        return weights
