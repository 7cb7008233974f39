"""One function's weights in their place on the device, there or on their way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fusion.spans import Layout
from fusion.swapping.backend import Copies, Mark


class ArrivingWeights:
    """One function's weights in their place; the copies may still be under way."""

    def __init__(
        self,
        copies: Copies,
        layout: Layout,
        own: Mapping[int, Tensor],
        lent: Mapping[int, Tensor],
        began: Mark,
        marks: Sequence[tuple[int, Mark]],
    ) -> None:
        self._copies = copies
        self._layout = layout
        self._own = own
        every = {**lent, **own}
        self._tensors = [every[number] for number in range(len(layout.tensors))]
        # (end of the data that is there, from when on), ascending
        self.marks = tuple(marks)
        self._began: Mark | None = began
        # those that are not over: several groups may read one function's weights at once
        self._uses: list[Mark] = []

    @property
    def tensors(self) -> list[Tensor]:
        """Views in file order, device; valid for a thread's computation after `wait_ready`."""
        return self._tensors

    def tensor(self, number: int) -> Tensor:
        """One of the file's own, for another function."""
        return self._own[number]

    def wait_ready(self) -> None:
        """What is computed next comes after all copies; the host does not wait."""
        self._copies.wait(self.marks[-1][1])

    def wait_for(self, mark: Mark) -> None:
        """What is computed next comes after this one of `marks`."""
        self._copies.wait(mark)

    @property
    def is_arriving(self) -> bool:
        """Whether copies are still under way."""
        return not self.marks[-1][1].query()

    def take_copy_s(self) -> float | None:
        """What the copies took, from before the first to after the last; said once, when done."""
        began = self._began
        if began is None or self.is_arriving:
            return None
        self._began = None
        return self._copies.seconds_between(began, self.marks[-1][1])

    def mark_used(self) -> None:
        """Note that what was computed so far may still be reading."""
        self._uses = [use for use in self._uses if not use.query()]
        self._uses.append(self._copies.mark_use())

    def retire(self) -> None:
        """Copies that come after this come after all uses: its place may be written to."""
        for use in self._uses:
            self._copies.hold_back(use)
        self._uses = []
        self._tensors = []

    def free(self, spans: Sequence[int]) -> list[int]:
        """Nothing stays: what is written there next was held back by `retire`."""
        return []

    def close(self) -> bool:
        """Give everything up."""
        self.retire()
        return True
