"""A backend that records callables with their buffers and calls them again: no GPU is needed.

As on a GPU a capture leaves nothing in the outputs, a replay reads the buffers and writes the
outputs, and what is closed cannot run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fusion.errors import CaptureError
from fusion.graphs.backend import Body, Captured, Recording


class CpuCaptured:
    """Recorded bodies, or assembled parts."""

    def __init__(self, backend: "CpuBackend", kind: str, bytes_: int, run: Callable[[], None]):
        self.kind = kind
        self.bytes = bytes_
        self.is_closed = False
        self.unmarked = 0  # replays that nobody has marked
        self._backend = backend
        self._run = run

    def replay(self) -> None:
        assert not self.is_closed, f"{self.kind} is replayed after it was closed"
        self._run()
        self.unmarked += 1
        self._backend.spent_s += self._backend.costs_s[self.kind]

    def mark_used(self) -> None:
        self.unmarked = 0

    def close(self) -> None:
        assert not self.is_closed, f"{self.kind} is closed twice"
        assert not self.unmarked, f"{self.kind} is closed while it may be in flight"
        self.is_closed = True
        self._run = lambda: None  # it holds the weights, which a real graph does not


@dataclass
class CpuBackend:
    """`costs_s` are what a run takes by what it replays; `broken` says what cannot be captured."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    costs_s: dict[str, float] = field(
        default_factory=lambda: {"generated": 10.0, "member": 1.0, "streams": 1.5, "children": 1.2}
    )
    broken: Callable[[str], Exception | None] = lambda _: None
    is_wrong: Callable[[str], bool] = lambda _: False
    made: list[CpuCaptured] = field(default_factory=list)
    spent_s: float = 0.0

    def capture(self, bodies: Sequence[Body]) -> Recording:
        kind = "member" if len(bodies) == 1 else "streams"
        self._refuse(kind)
        outputs = [[output.clone() for output in body()] for body in bodies]
        for output in (x for found in outputs for x in found):
            _spoil(output)
        is_wrong = self.is_wrong(kind)

        def run() -> None:
            for body, found in zip(bodies, outputs, strict=True):
                for output, value in zip(found, body(), strict=True):
                    output.copy_(value * 2 + 1 if is_wrong else value)

        bytes_ = sum(output.nbytes for found in outputs for output in found)
        return Recording(self._made(kind, bytes_, run), outputs)

    def assemble(self, parts: Sequence[Captured]) -> CpuCaptured:
        self._refuse("children")

        def run() -> None:
            spent_s = self.spent_s
            for part in parts:
                part.replay()
                part.mark_used()
            self.spent_s = spent_s  # side by side

        return self._made("children", 16, run)

    def seconds(self, run: Callable[[], object]) -> float:
        before_s = self.spent_s
        run()
        return (self.spent_s - before_s) or self.costs_s["generated"]

    def open(self, kind: str) -> int:
        """How many of a kind are not closed."""
        return sum(each.kind == kind and not each.is_closed for each in self.made)

    def _made(self, kind: str, bytes_: int, run: Callable[[], None]) -> CpuCaptured:
        self.made.append(CpuCaptured(self, kind, bytes_, run))
        return self.made[-1]

    def _refuse(self, kind: str) -> None:
        error = self.broken(kind)
        if error is not None:
            raise error


def _spoil(output: Tensor) -> None:
    output.fill_(float("nan") if output.is_floating_point() else 1)


def no_bindings(kind: str) -> Exception | None:
    """As without cuda-bindings."""
    return CaptureError("no bindings") if kind == "children" else None
