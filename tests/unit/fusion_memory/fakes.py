"""Fakes handed to the slot table: a loader that counts what it holds, and a clock."""

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.slots import SlotRequest
from fusion.spans import Layout
from fusion.weights import WeightEntry, WeightsIndex


class FakeClock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class FakeWeights:
    """Weights without tensors; `is_viewed` makes them refuse to go."""

    def __init__(self, bytes_: int, loader: "FakeLoader") -> None:
        self.bytes = bytes_
        self.is_viewed = False
        self.uses = 0
        self._loader = loader

    @property
    def tensors(self) -> list[Tensor]:
        return []

    def wait_ready(self) -> None:
        pass

    def mark_used(self) -> None:
        self.uses += 1

    def close(self) -> bool:
        if self.is_viewed:
            return False
        self._loader.take(-self.bytes)
        return True


class FakeLoader:
    """Counts the bytes it holds, fails for paths in `broken`, calls `during` in each load."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.measured_free_bytes: int | None = None
        self.broken: set[str] = set()
        self.hosted: dict[str, float] = {}
        self.loaded: list[str] = []
        self.verified: list[bool] = []
        self.weights: dict[str, FakeWeights] = {}
        self.during: Callable[[str], None] = lambda _: None
        self._lock = threading.Lock()

    def slot_bytes(self, index: WeightsIndex) -> int:
        return index.file_bytes

    def free_bytes(self) -> int | None:
        return self.measured_free_bytes

    def host_share(self, path: Path) -> float:
        return self.hosted.get(path.name, 0.0)

    def take(self, bytes_: int) -> None:
        with self._lock:
            self.held_bytes += bytes_
            assert 0 <= self.held_bytes <= self.limit_bytes

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> FakeWeights:
        self.during(path.name)
        if path.name in self.broken:
            raise WeightsError(f"{path}: broken")
        self.take(index.file_bytes)
        self.loaded.append(path.name)
        self.verified.append(is_verified)
        self.weights[path.name] = FakeWeights(index.file_bytes, self)
        return self.weights[path.name]


def request(key: str, bytes_: int, keep_alive_s: float | None = None) -> SlotRequest:
    """A function of `bytes_` whose file is named like its key."""
    return SlotRequest(key, Path(key), WeightsIndex((), 0, bytes_), keep_alive_s)


class FakeParts(FakeWeights):
    """Weights whose tensors are numbers, their contents; what was freed becomes -1."""

    def __init__(
        self,
        index: WeightsIndex,
        layout: Layout,
        lent: Mapping[int, Tensor],
        loader: "FakeSharingLoader",
    ) -> None:
        super().__init__(layout.bytes_of(layout.needed(lent)), loader)
        self._layout = layout
        self._own = {
            k: torch.tensor(int(entry.sha256))
            for k, entry in enumerate(index.entries)
            if k not in lent
        }
        self._tensors = [(lent if k in lent else self._own)[k] for k in range(len(index.entries))]

    @property
    def tensors(self) -> list[Tensor]:
        return self._tensors

    def tensor(self, number: int) -> Tensor:
        return self._own[number]

    def retire(self) -> None:
        self._tensors = []

    def free(self, spans: Sequence[int]) -> list[int]:
        if self.is_viewed:
            return [*spans]
        for span in spans:
            self._own.pop(span).fill_(-1)
        self._loader.take(-self._layout.bytes_of(spans))
        return []


class FakeSharingLoader(FakeLoader):
    """One that shares; every tensor is a span."""

    def layout(self, index: WeightsIndex) -> Layout:
        cuts = (0, *accumulate(entry.nbytes for entry in index.entries))
        return Layout(cuts, tuple(range(k, k + 1) for k in range(len(index.entries))))

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> FakeParts:
        return self.load_rest(path, index, is_verified, {})

    def load_rest(
        self, path: Path, index: WeightsIndex, is_verified: bool, lent: Mapping[int, Tensor]
    ) -> FakeParts:
        self.during(path.name)
        if path.name in self.broken:
            raise WeightsError(f"{path}: broken")
        parts = FakeParts(index, self.layout(index), lent, self)
        self.take(parts.bytes)
        self.loaded.append(path.name)
        self.verified.append(is_verified)
        self.weights[path.name] = parts
        return parts


def made_of(key: str, tensors: Mapping[int, int], keep_alive_s: float | None = None) -> SlotRequest:
    """A function of tensors with these contents and bytes."""
    begins = accumulate(tensors.values(), initial=0)
    entries = tuple(
        WeightEntry(str(content), "uint8", (size,), begin, size, str(content))
        for begin, (content, size) in zip(begins, tensors.items(), strict=False)
    )
    index = WeightsIndex(entries, 0, sum(tensors.values()))
    return SlotRequest(key, Path(key), index, keep_alive_s)
