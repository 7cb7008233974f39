"""The records of device memory: what is asked for, what is held, what is reported."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from torch import Tensor

from fusion.loaders import Loader, ResidentWeights
from fusion.sharing import Placement
from fusion.weights import WeightsIndex

KEPT_S = -1.0  # the keep_alive_s of a function that is never evicted to make room


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """One function's weights, to be resident.

    `keep_alive_s`: None leaves eviction to LRU; 0 evicts at the last release; a positive number
    after that long idle; -1 (`KEPT_S`) only by `evict`. The newest request's holds.
    `is_verified` says that the file's digests were compared already, as when it was fetched.
    """

    key: str
    path: Path
    index: WeightsIndex
    keep_alive_s: float | None = None
    is_verified: bool = False
    loader: Loader | None = None  # its own way to be resident, other than the table's

    def __post_init__(self) -> None:
        if self.keep_alive_s is not None and self.keep_alive_s < 0 and not self.is_kept:
            raise ValueError(
                f"{self.key}: keep_alive_s is {self.keep_alive_s}, expected -1 or more"
            )

    @property
    def is_kept(self) -> bool:
        """Whether it stays until it is evicted by name."""
        return self.keep_alive_s == KEPT_S


@dataclass(slots=True)
class Slot:
    """The place of one function's weights; the bytes are counted before the weights arrive."""

    request: SlotRequest
    placement: Placement
    weights: ResidentWeights | None = None
    is_loading: bool = False
    released_at_s: float = 0.0

    @property
    def due_s(self) -> float | None:
        """When it is evicted for idleness, should it stay idle."""
        keep_alive_s = self.request.keep_alive_s
        if keep_alive_s is None or self.request.is_kept:
            return None
        return self.released_at_s + keep_alive_s


class SlotStats(NamedTuple):
    """Bytes now, and counts since the table was made."""

    budget_bytes: int
    resident_bytes: int  # weights in slots, those that are loading included; each tensor once
    shared_bytes: int  # the part of resident_bytes that several functions hold
    pinned_bytes: int  # the part of resident_bytes that a lease holds
    scratch_bytes: int  # reserved for activations by leases
    charged_bytes: int  # counted by others, such as DAGs
    leaving_bytes: int  # evicted, and still mapped because a view is held somewhere
    resident: tuple[str, ...]  # keys, least recently used first
    leases: int
    waiting: int
    loads: int
    failed_loads: int
    evictions: int
    loaded_bytes: int
    load_s: float
    thrash: int  # loads of what had just been evicted to make room; see fusion.history
    pinned: tuple[str, ...] = ()  # keys that a lease holds, those that are loading included

    @property
    def used_bytes(self) -> int:
        """Everything that counts in the budget."""
        return self.resident_bytes + self.scratch_bytes + self.charged_bytes + self.leaving_bytes


@dataclass(slots=True, eq=False)
class Lease:
    """The resident, pinned weights of a group, until it is released."""

    slots: dict[str, Slot]
    scratch_bytes: int
    give_back: Callable[["Lease"], None]
    cold: set[str] = field(default_factory=set)  # keys that this lease loaded itself
    loaded_bytes: int = 0
    load_s: float = 0.0
    disk_bytes: int = 0  # the part of both whose bytes were on disk alone
    disk_s: float = 0.0
    is_released: bool = False
    has_run: bool = True  # False: its functions only came in, and nothing used them

    def tensors(self, key: str) -> list[Tensor]:
        """The function's weights in file order, device; ready for the current stream.

        They must not outlive the lease: a view kept longer keeps its slot's memory.
        """
        weights = self._weights(key)
        weights.wait_ready()
        return list(weights.tensors)

    def names(self, key: str) -> tuple[str, ...]:
        """The names of `tensors(key)`."""
        return tuple(entry.name for entry in self.slots[key].request.index.entries)

    def release(self) -> None:
        """Unpin, on the stream that used the weights last; a second call does nothing."""
        self.give_back(self)

    def awaited(self) -> list[str]:
        """Keys whose weights have not arrived, earlier placed first.

        In this order, who waits for another's tensors waits for an earlier slot: there is no cycle.
        """
        keys = [key for key, slot in self.slots.items() if slot.weights is None]
        return sorted(keys, key=lambda key: self.slots[key].placement.number)

    def resident(self) -> Iterable[ResidentWeights]:
        """The weights that have arrived."""
        return [slot.weights for slot in self.slots.values() if slot.weights is not None]

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _weights(self, key: str) -> ResidentWeights:
        assert not self.is_released, f"lease of {', '.join(self.slots)} is released"
        weights = self.slots[key].weights
        assert weights is not None, f"{key} is leased and not loaded"
        return weights
