"""Which predictions have changed, for whoever keeps them."""

from __future__ import annotations

from collections.abc import Sequence

from contract.function import FunctionRef

# Functions whose changes are remembered.
KEPT = 4096


class Revisions:
    """Counts changes; tells what has changed since a count."""

    def __init__(self) -> None:
        self.count = 0
        # of what is older nobody knows which functions it was
        self._known_from = 0
        # count of the last change, the last changed last
        self._by_ref: dict[FunctionRef, int] = {}

    def note(self, ref: FunctionRef) -> None:
        """Predictions of a function are others now."""
        self.count += 1
        self._by_ref.pop(ref, None)
        self._by_ref[ref] = self.count
        if len(self._by_ref) > KEPT:
            oldest = next(iter(self._by_ref))
            self._known_from = self._by_ref.pop(oldest)

    def note_all(self) -> None:
        """Those of any function may be."""
        self.count += 1
        self._by_ref.clear()
        self._known_from = self.count

    def since(self, count: int) -> Sequence[FunctionRef] | None:
        """Functions that have changed since then; None: any may have."""
        if count < self._known_from:
            return None
        found = []
        for ref in reversed(self._by_ref):
            if self._by_ref[ref] <= count:
                break
            found.append(ref)
        return found
