"""What a group's jobs are on their way through a worker: fetched, staged, run, ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.job import Claim, JobSpec, Status
from contract.store.queue import Fetched
from contract.tensors import Tensors


class Times(NamedTuple):
    """Seconds that one job spent in each step; what it waited for counts as the step's."""

    # for the device, while another run computed
    wait_s: float = 0.0
    hooks_s: float = 0.0
    # from asking for the weights of its run until all of them were in their slots
    swap_s: float = 0.0
    # making the fused DAG, 0 where the cache had it
    build_s: float = 0.0
    compute_s: float = 0.0


NO_TIMES = Times()


@dataclass(frozen=True, slots=True)
class Staged:
    """A job whose inputs are tensors that fit its function."""

    claim: Claim
    spec: JobSpec
    function: Function
    inputs: Tensors
    rows: int
    hooks_s: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that was computed; `outputs` are its own rows, on the host."""

    job: Staged
    outputs: Tensors
    times: Times


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: with outputs, a result, or an error."""

    claim: Claim
    spec: JobSpec
    status: Status
    rows: int = 0
    outputs: Tensors | None = None
    result: Any = None
    error: FuseboxError | None = None
    times: Times = NO_TIMES

    @classmethod
    def failed(
        cls,
        job: Fetched | Staged,
        error: FuseboxError,
        status: Status = Status.FAILED,
        times: Times = NO_TIMES,
    ) -> Ended:
        """The end of a job with an error."""
        rows = job.rows if isinstance(job, Staged) else job.spec.rows
        return cls(job.claim, job.spec, status, rows, error=error, times=times)


@dataclass
class Tally:
    """What one group cost, summed while it runs."""

    compute_s: float = 0.0
    swap_s: float = 0.0
    build_s: float = 0.0
    swap_bytes: int = 0
    isolated: int = 0
    expired: int = 0
    # functions whose weights had to be loaded
    cold: set[str] = field(default_factory=set)
    # how members ran as one, once each
    strategies: list[str] = field(default_factory=list)
    # by function: the tiers it ran in, and seconds where they were measured for it alone
    tiers: dict[FunctionRef, list[str]] = field(default_factory=dict)
    member_s: dict[FunctionRef, float] = field(default_factory=dict)
    # fused DAGs that no cache had
    built: int = 0
    # the part of the bytes and seconds of loads that came from disk
    disk_bytes: int = 0
    disk_s: float = 0.0
    # first and last on the device, Unix seconds; 0 before the first run
    began_at_s: float = 0.0
    ended_at_s: float = 0.0

    def note_run(self, strategy: str, seconds: float, now_s: float) -> None:
        """A run has ended that was on the device for so long."""
        self.began_at_s = self.began_at_s or now_s - seconds
        self.ended_at_s = now_s
        if strategy not in self.strategies:
            self.strategies.append(strategy)

    def note_member(self, ref: FunctionRef, tier: str, seconds: float | None) -> None:
        """What a run says of one of its members."""
        tiers = self.tiers.setdefault(ref, [])
        if tier not in tiers:
            tiers.append(tier)
        if seconds is not None:
            self.member_s[ref] = self.member_s.get(ref, 0.0) + seconds
