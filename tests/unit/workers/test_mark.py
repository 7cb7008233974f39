"""A worker asks to be replaced once, when its process has grown past its mark."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workers.mark import MemoryMark


class Grower:
    """A worker whose memory the test sets."""

    def __init__(self, mark_bytes: int | None, baseline_bytes: int = 100) -> None:
        self.asked = 0
        self._gauge = SimpleNamespace(
            baseline_bytes=baseline_bytes, latest=SimpleNamespace(process_bytes=0)
        )
        self._mark = MemoryMark(self._gauge, 200, mark_bytes, self._ask)  # type: ignore[arg-type]  # all that it reads

    def _ask(self) -> None:
        self.asked += 1

    def grow_to(self, process_bytes: int) -> int:
        """Measure so many bytes; how often it has asked by then."""
        self._gauge.latest.process_bytes = process_bytes
        self._mark.look()
        return self.asked


@pytest.mark.parametrize(("mark_bytes", "limit_bytes"), [(300, 300), (None, 450)])
def test_it_asks_once_and_past_the_mark_only(mark_bytes: int | None, limit_bytes: int) -> None:
    """Without a setting the mark is 1.5 times what it starts with and its budget."""
    worker = Grower(mark_bytes)
    assert [worker.grow_to(n) for n in (0, limit_bytes, limit_bytes + 1, 10**9)] == [0, 0, 1, 1]


def test_a_mark_below_the_start_replaces_nobody() -> None:
    """Its successor would start above it as well."""
    assert Grower(50).grow_to(120) == 0
