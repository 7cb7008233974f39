"""A group that grows: whether one job more fits, in O(1). Pure.

A group is as long as it may be (`longest_s`): all that are due soon wait for its end, those to come
too. Batches are as large as still lets a job that just missed one group wait for it and run in
the next within its aim, as in Nexus (Shen et al., SOSP 2019), for the tightest aim of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from contract.function import FunctionRef
from workers.scheduling.forecast import Forecast
from workers.scheduling.groups import LONG_GROUP_S, SEND_AHEAD_FROM_S, Group
from workers.scheduling.order import Turn
from workers.scheduling.records import FunctionView, Limits, PendingJob, WorkerView

# Part of the tightest aim that one group may take: one waits for a group, then runs in another.
AIM_SHARE = 0.5
# Predicted times are stretched by this where a due time is to be kept.
SAFETY = 1.15
# A device waits so long between two groups, though the next one is there.
GAP_S = 0.0005


def longest_s(aim_s: float) -> float:
    """How long a group may be where this is the tightest aim."""
    return min(LONG_GROUP_S, AIM_SHARE * aim_s)


class Fit(Enum):
    """What became of an offer."""

    TAKEN = auto()
    # another of its function may fit
    TOO_MUCH = auto()
    # no other of its function does
    NO_MEMBER = auto()


class _Member(NamedTuple):
    rows: int
    compute_s: float
    activation_bytes: int


class Filling:
    """A group on a worker, with its sums."""

    def __init__(
        self,
        first: Turn,
        worker: WorkerView,
        limits: Limits,
        functions: Mapping[FunctionRef, FunctionView],
        forecast: Forecast,
        now_s: float,
        longest_s: float,
    ) -> None:
        """The first job is in, whatever it costs."""
        self.group, self._limits = Group(worker), limits
        self._functions, self._forecast = functions, forecast
        self._start_s = now_s + worker.free_in_s
        self._members: dict[FunctionRef, _Member] = {}
        self._compute_s = self._swap_s = 0.0
        self._activation_bytes = self._resident_bytes = self._cold_bytes = 0
        self._until_s = first.until_s
        ref, view = first.job.function, functions[first.job.function]
        self._is_closed = view.is_eager
        self._is_in_blocks = view.weight_bytes > worker.budget_bytes
        rows = first.job.rows
        compute_s = forecast.compute_s(ref, rows)
        self._longest_s = max(longest_s, compute_s)
        whole = _Member(rows, compute_s, forecast.activation_bytes(ref, rows, view))
        self._add(first.job, view, whole, None)

    @property
    def compute_s(self) -> float:
        """Predicted time of all members there: alone, added up."""
        return self._compute_s / self.group.worker.speed

    @property
    def end_s(self) -> float:
        """When it ends, if it takes somewhat longer than predicted."""
        return self._start_s + SAFETY * (self._swap_s + self.compute_s)

    def has(self, ref: FunctionRef) -> bool:
        """Whether it is a member."""
        return ref in self._members

    @property
    def room_s(self) -> float:
        """What one more function may take of the device, at a speed of 1."""
        until_s = (self._until_s - self._start_s) / SAFETY - self._swap_s
        return min(self._longest_s, until_s) * self.group.worker.speed - self._compute_s

    def offer(self, turn: Turn, waiting: int) -> Fit:
        """Take the job in where limits, bytes and due times are kept; `waiting`: jobs in all.

        The first of another function is taken where that lets jobs end sooner in the mean.
        """
        job = turn.job
        ref, view, rows = job.function, self._functions[job.function], job.rows
        member = self._members.get(ref)
        if member is None:
            if not self._may_join(view) or not self._pays(turn, view, waiting):
                return Fit.NO_MEMBER
        elif not view.is_batchable:
            return Fit.NO_MEMBER
        else:
            rows += member.rows
            if rows > view.max_batch:
                return Fit.TOO_MUCH
        compute_s, until_s = self._forecast.compute_s(ref, rows), turn.until_s
        if not self._is_in_time(ref, view, compute_s, member, until_s):
            return Fit.TOO_MUCH
        activation_bytes = self._forecast.activation_bytes(ref, rows, view)
        if not self._fits(ref, view, activation_bytes, member):
            return Fit.TOO_MUCH
        self._add(job, view, _Member(rows, compute_s, activation_bytes), member)
        if until_s < self._until_s:
            self._until_s = until_s
        return Fit.TAKEN

    def spare(self, turn: Turn) -> None:
        """Grow no further than lets a job that waits for the next group be in time, if it can."""
        job = turn.job
        latest_s = turn.until_s - SAFETY * self._forecast.compute_s(job.function, job.rows)
        if not turn.is_late and latest_s >= self.end_s:
            self._until_s = min(self._until_s, latest_s)

    def _may_join(self, view: FunctionView) -> bool:
        """Whether another function may run beside those that are in it."""
        if self._is_closed or view.is_eager or self._is_in_blocks:
            return False
        is_small = view.weight_bytes <= self.group.worker.budget_bytes
        return is_small and len(self._members) < self._limits.functions

    def _pays(self, turn: Turn, view: FunctionView, waiting: int) -> bool:
        """Whether running beside each other ends jobs sooner than one group after the other.

        Those of the group wait for the other's; those, and all that wait behind, save the way of a
        group, and what the device gains by both at once.
        """
        ref, group = turn.job.function, self.group
        if not self._forecast.knows_together(len(self._members) + 1, group.worker):
            # it is found out by trying
            return True
        jobs = turn.stop - turn.at
        rows = min(jobs * turn.job.rows, max(view.max_batch, turn.job.rows))
        before_s = self._fused_s(self.group.rows)
        both_s = self._fused_s({**self.group.rows, ref: rows})
        speed = group.worker.speed
        apart_s = before_s + self._forecast.compute_s(ref, rows) / speed
        apart_s += GAP_S + max(0.0, SEND_AHEAD_FROM_S - before_s)
        behind = max(waiting - len(group.jobs), jobs)
        return len(group.jobs) * (both_s - before_s) < behind * (apart_s - both_s)

    def _fused_s(self, rows: Mapping[FunctionRef, int]) -> float:
        return self._forecast.group_s(rows, self.group.worker) / self.group.worker.speed

    def _is_in_time(
        self,
        ref: FunctionRef,
        view: FunctionView,
        compute_s: float,
        member: _Member | None,
        until_s: float,
    ) -> bool:
        """Whether it ends before then and the others' due times with this function so long."""
        its_s = compute_s if member is None else compute_s - member.compute_s
        group_s = (self._compute_s + its_s) / self.group.worker.speed
        if group_s > self._longest_s:
            return False
        swap_s = self._swap_s
        if member is None and ref not in self.group.worker.resident:
            swap_s = self._forecast.swap_s(self._cold_bytes + view.weight_bytes)
        end_s = self._start_s + SAFETY * (swap_s + group_s)
        return end_s <= until_s and end_s <= self._until_s

    def _fits(
        self, ref: FunctionRef, view: FunctionView, activation_bytes: int, member: _Member | None
    ) -> bool:
        """Whether the bytes do.

        Those that are resident side by side are known to fit as they are; a function larger than
        the budget runs alone and in blocks, so its activations count.
        """
        worker = self.group.worker
        activations = self._activation_bytes + activation_bytes
        activations -= member.activation_bytes if member else 0
        if self._is_in_blocks:
            return activations <= worker.budget_bytes
        resident, cold = self._resident_bytes, self._cold_bytes
        if member is None:
            if ref in worker.resident:
                resident += view.weight_bytes
            else:
                cold += view.weight_bytes
        return min(resident, worker.resident_bytes) + cold + activations <= worker.budget_bytes

    def _add(
        self, job: PendingJob, view: FunctionView, grown: _Member, before: _Member | None
    ) -> None:
        ref = job.function
        if before is None:
            if ref in self.group.worker.resident:
                self._resident_bytes += view.weight_bytes
            else:
                self._cold_bytes += view.weight_bytes
                self._swap_s = self._forecast.swap_s(self._cold_bytes)
        else:
            self._compute_s -= before.compute_s
            self._activation_bytes -= before.activation_bytes
        self._members[ref] = grown
        self._compute_s += grown.compute_s
        self._activation_bytes += grown.activation_bytes
        self.group.add(job)
