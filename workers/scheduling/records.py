"""What the policy looks at and what it decides. Times are Unix seconds unless named otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from contract.function import FunctionRef
from contract.job import JobId


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A queued job."""

    id: JobId
    function: FunctionRef
    rows: int
    # order of urgency
    due_at_s: float
    # worthless after
    deadline_s: float
    # Unix seconds
    accepted_at_s: float = 0.0
    # higher goes first, whatever is due; 0 to MAX_PRIORITY of contract.job
    priority: int = 0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that takes groups."""

    id: str
    free_places: int
    budget_bytes: int
    resident: frozenset[FunctionRef]
    # predicted time of the groups it has; None when it has none
    under_way_s: float | None = None
    # functions it still has jobs of, for their hooks are slow: it gets no more of them
    behind: frozenset[FunctionRef] = frozenset()
    # what it holds now: functions that share weights take less together than one by one
    resident_bytes: float = inf
    # predicted time until those groups have ended; None where nobody knows when they began
    remaining_s: float | None = None
    # of arithmetic and memory, relative to the mean of all workers
    speed: float = 1.0
    # groups that it has, by name of each function in them
    groups_of: Mapping[str, int] = field(default_factory=dict, hash=False)
    # functions whose weights are in host memory, or as near
    hosted: frozenset[FunctionRef] = frozenset()
    # groups of which it has the fused DAG: function and row bucket of each member
    cached: Set[frozenset[tuple[FunctionRef, int]]] = frozenset()
    # threads to run members side by side on
    lanes: int = 1

    @property
    def free_in_s(self) -> float:
        """Predicted time until a group that comes now begins to compute."""
        if self.remaining_s is not None:
            return self.remaining_s
        return self.under_way_s or 0.0


@dataclass(frozen=True, slots=True)
class FunctionView:
    """What the policy must know of a function version."""

    weight_bytes: int
    # activation peak of a run of so many rows
    activation_bytes_at: Callable[[int], int]
    max_batch: int
    is_batchable: bool
    has_hooks: bool = False
    # it runs in a process of its own, with which no other function can be fused
    is_eager: bool = False


class Limits(NamedTuple):
    """Bounds of one group."""

    functions: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run these jobs as one group on this worker, most urgent first."""

    worker: str
    jobs: tuple[PendingJob, ...]
    # on the device, weights included
    predicted_s: float


class Refusal(NamedTuple):
    """A job that is better told now than at its deadline that it cannot be met."""

    job: PendingJob
    # when it could have ended at the earliest, Unix seconds
    earliest_end_s: float
    # `too_long`: its run alone takes longer than it has; `workers_busy`: what workers have does;
    # `not_admitted`: what was admitted before it does; `overloaded`: it would be late, and late
    # jobs hardly get a turn now
    reason: str = "workers_busy"


class Plan(NamedTuple):
    """What to do now."""

    dispatches: Sequence[Dispatch]
    refused: Sequence[Refusal] = ()
    # look again then, even if nothing happens before; Unix seconds
    wake_at_s: float = inf
