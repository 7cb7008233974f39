"""The cost model of one platform: predictions for the policy, learned from reports of groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from contract.function import FunctionRef
from contract.store.queue import GroupReport
from workers.scheduling.costs.errors import ErrorLog, Errors
from workers.scheduling.costs.functions import KNOWN_RUNS, PRIOR_COMPUTE_S, FunctionCosts
from workers.scheduling.costs.interference import Interference, members_of
from workers.scheduling.costs.records import (
    BUILDS,
    PROBED,
    Kept,
    decode_into,
    encode_field,
    function_field,
    set_field,
    size_field,
    swap_field,
)
from workers.scheduling.costs.revisions import Revisions
from workers.scheduling.costs.samples import Recent
from workers.scheduling.costs.transfers import ANY, DISK, HOST, Transfers
from workers.scheduling.records import WorkerView

# Functions whose costs are kept; the least lately run go.
FUNCTIONS = 4096
# Group times remembered until the next report.
CACHED = 4096
# Runs of a function that tell how workers compare with the machines functions are deployed from.
PROBED_RUNS = 8


class Member(NamedTuple):
    """What a group computed of one function."""

    ref: FunctionRef
    rows: int
    # seconds of the group's compute time
    part_s: float
    tier: str


class Costs:
    """Everything that is predicted. Not for several threads."""

    def __init__(self) -> None:
        # the last run last
        self._functions: dict[FunctionRef, FunctionCosts] = {}
        self._interference = Interference()
        self._transfers = Transfers()
        # measured at a worker / at deploy
        self._probed = Recent()
        self._errors = ErrorLog()
        # of functions that have run: rows and quantile -> seconds
        self._alone_s: dict[FunctionRef, dict[tuple[int, float], float]] = {}
        self._group_s: dict[tuple[frozenset[tuple[FunctionRef, int]], int, float], float] = {}
        self._unsaved: dict[str, Kept | None] = {}
        # of `compute_s`
        self.revisions = Revisions()

    def compute_s(self, ref: FunctionRef, rows: int, quantile: float = 0.5) -> float:
        """Predicted compute time of a function alone; that share of runs takes at most as long."""
        known = self._alone_s.get(ref)
        # a decision asks this most
        if known is not None and (seconds := known.get((rows, quantile))) is not None:
            return seconds
        its = self._functions.get(ref)
        seconds = its.alone_s(rows, quantile, self._probe_scale()) if its else PRIOR_COMPUTE_S
        if its is not None and its.is_measured:
            self._alone_s.setdefault(ref, {})[rows, quantile] = seconds
        return seconds

    def group_s(
        self,
        rows: Mapping[FunctionRef, int],
        worker: WorkerView | None = None,
        quantile: float = 0.5,
    ) -> float:
        """Predicted compute time of a group; of several members their sum, times what they add."""
        if len(rows) == 1:
            [(ref, count)] = rows.items()
            return self.compute_s(ref, count, quantile)
        key = (frozenset(rows.items()), worker.lanes if worker else 1, quantile)
        found = self._group_s.get(key)
        if found is None:
            if len(self._group_s) >= CACHED:
                self._group_s.clear()
            found = self._group_s[key] = self._fused_s(rows, key[1], quantile)
        return found

    def knows_together(self, members: int, worker: WorkerView) -> bool:
        """Whether groups of so many members have run: what they add is more than a guess."""
        return self._interference.is_known(members, worker.lanes)

    def is_measured(self, ref: FunctionRef) -> bool:
        """Whether a version has run, so that its prediction is more than a guess."""
        its = self._functions.get(ref)
        return its is not None and its.is_measured

    def swap_s(self, swap_bytes: int, worker: str = "", tier: str = ANY) -> float:
        """Predicted time to bring in weights from `tier`, HOST or DISK where that is known."""
        return self._transfers.swap_s(swap_bytes, worker, tier)

    def load_s(self, sizes: Mapping[FunctionRef, int], worker: WorkerView) -> float:
        """Predicted time to bring in what is not resident, of these functions and bytes."""
        by_tier = {HOST: 0, DISK: 0}
        for ref, size in sizes.items():
            if ref not in worker.resident:
                by_tier[HOST if ref in worker.hosted else DISK] += size
        return sum(self.swap_s(size, worker.id, tier) for tier, size in by_tier.items())

    def build_s(self, rows: Mapping[FunctionRef, int], worker: WorkerView) -> float:
        """Predicted time to build the group's DAG; 0 where the worker has it."""
        if members_of(rows.items()) in worker.cached:
            return 0.0
        return self._transfers.build_s(len(rows))

    def expect(self, ref: FunctionRef, seconds_by_rows: Mapping[int, float]) -> None:
        """A function as it was measured at deploy: all there is to go by before it runs."""
        if seconds_by_rows:
            self._of(ref).expect(seconds_by_rows)
            self._revise(ref)
            self._group_s.clear()

    def note_total(self, predicted_s: float, report: GroupReport) -> None:
        """A group has ended of which the policy had predicted this, swap and build included."""
        self._errors.note_total(predicted_s, report.compute_s + report.swap_s + report.build_s)

    def learn(self, report: GroupReport) -> list[tuple[FunctionRef, float]]:
        """Take in what a worker measured; each member and its part of the group's compute time.

        Time is shared out as the worker measured members, or else as they were predicted.
        """
        rows = {FunctionRef(name, version): n for name, version, n in report.members}
        predicted_s = self.group_s(rows, _view_of(report))
        self._errors.note_compute(rows, predicted_s, report.compute_s)
        scale = self._probe_scale()
        members = self._share_out(report, rows)
        if len(members) == 1:
            self._learn_alone(members[0], _strategy_of(report))
        else:
            self._learn_fused(members, report)
        self._learn_transfers(report)
        for ref in rows:
            self._revise(ref)
        if self._probe_scale() != scale:
            self._alone_s.clear()
            self.revisions.note_all()
        self._group_s.clear()
        return [(member.ref, member.part_s) for member in members]

    def forget(self, ref: FunctionRef) -> None:
        """Unlearn a version that is removed."""
        if self._functions.pop(ref, None) is not None:
            self._unsaved[function_field(ref)] = None
        for members in self._interference.forget(ref):
            self._unsaved[set_field(members)] = None
        self._errors.forget(ref)
        self._revise(ref)
        self._group_s.clear()

    def errors(self) -> Errors:
        """How far the latest predictions were off."""
        return self._errors.summary()

    def refs(self) -> Sequence[FunctionRef]:
        """The versions of which anything is known."""
        return list(self._functions)

    def take_changes(self, most: int) -> dict[str, bytes | None]:
        """Up to so many fields that have changed since they were taken; None: it is gone."""
        names = list(self._unsaved)[:most]
        changed = {name: self._unsaved.pop(name) for name in names}
        return {name: None if it is None else encode_field(it) for name, it in changed.items()}

    @classmethod
    def of(cls, fields: Mapping[str, bytes]) -> Costs:
        """What `take_changes` gave, of a whole life; a field that is not understood is left out."""
        costs = cls()
        decode_into(fields, costs._functions, costs._interference, costs._transfers, costs._probed)
        return costs

    def _fused_s(self, rows: Mapping[FunctionRef, int], lanes: int, quantile: float) -> float:
        scale = self._probe_scale()
        total_s = 0.0
        for ref, count in rows.items():
            its = self._functions.get(ref)
            total_s += its.beside_s(count, quantile, scale) if its else PRIOR_COMPUTE_S
        return total_s * self._interference.factor(members_of(rows.items()), lanes)

    def _share_out(self, report: GroupReport, rows: Mapping[FunctionRef, int]) -> list[Member]:
        weights = list(report.member_s)
        if len(weights) != len(rows) or not sum(weights):
            scale = self._probe_scale()
            weights = [self._of(ref).beside_s(n, 0.5, scale) for ref, n in rows.items()]
        total_s = sum(weights)
        shares = [w / total_s if total_s else 1 / len(rows) for w in weights]
        tiers = list(report.tiers) if len(report.tiers) == len(rows) else [""] * len(rows)
        return [
            Member(ref, n, report.compute_s * share, tier)
            for (ref, n), share, tier in zip(rows.items(), shares, tiers, strict=True)
        ]

    def _learn_alone(self, member: Member, strategy: str) -> None:
        its = self._run(member.ref)
        probe_s = its.probe_s(member.rows)
        if probe_s and its.runs < PROBED_RUNS:
            self._probed.add("", member.rows, member.part_s / probe_s)
            self._unsaved[PROBED] = self._probed
        its.alone.learn(member.rows, member.part_s, f"{strategy}/{member.tier}")

    def _learn_fused(self, members: Sequence[Member], report: GroupReport) -> None:
        scale = self._probe_scale()
        their = [self._run(member.ref) for member in members]
        lanes = report.lanes
        # what members add to each other is no part of their own times
        added = self._interference.size_factor(len(members), lanes)
        if all(its.runs >= KNOWN_RUNS for its in their):
            alone_s = sum(
                its.beside_s(member.rows, 0.5, scale)
                for its, member in zip(their, members, strict=True)
            )
            self._learn_interference(members, report, alone_s)
        for its, member in zip(their, members, strict=True):
            its.beside.learn(member.rows, member.part_s / added, _strategy_of(report))

    def _learn_interference(
        self, members: Sequence[Member], report: GroupReport, alone_s: float
    ) -> None:
        if alone_s <= 0:
            return
        known_by = members_of((member.ref, member.rows) for member in members)
        size, ratio = (len(members), report.lanes), report.compute_s / alone_s
        for gone in self._interference.learn(known_by, report.lanes, ratio, _strategy_of(report)):
            self._unsaved[set_field(gone)] = None
        self._unsaved[size_field(*size)] = self._interference.by_size[size]
        self._unsaved[set_field(known_by)] = self._interference.by_set[known_by]

    def _learn_transfers(self, report: GroupReport) -> None:
        host_bytes = report.swap_bytes - report.disk_bytes
        host_s = report.swap_s - report.disk_s
        parts = ((HOST, host_bytes, host_s), (DISK, report.disk_bytes, report.disk_s))
        for tier, size, seconds in parts:
            if size > 0 and seconds > 0:
                for gone in self._transfers.learn_swap(size, seconds, report.worker, tier):
                    self._unsaved[swap_field(*gone)] = None
                for way in ((report.worker, tier), (report.worker, ANY), ("", tier), ("", ANY)):
                    self._unsaved[swap_field(*way)] = self._transfers.swaps[way]
        if report.built and report.members:
            self._transfers.builds.learn(len(report.members), report.build_s / report.built)
            self._unsaved[BUILDS] = self._transfers.builds

    def _revise(self, ref: FunctionRef) -> None:
        self._alone_s.pop(ref, None)
        self.revisions.note(ref)

    def _probe_scale(self) -> float:
        return self._probed.median() if len(self._probed) else 1.0

    def _of(self, ref: FunctionRef) -> FunctionCosts:
        its = self._functions.get(ref)
        if its is None:
            its = self._functions[ref] = FunctionCosts()
            self._drop(list(self._functions)[:-FUNCTIONS])
        return its

    def _run(self, ref: FunctionRef) -> FunctionCosts:
        """A function that has run: it is to be kept, and saved."""
        its = self._of(ref)
        self._functions[ref] = self._functions.pop(ref)
        self._unsaved[function_field(ref)] = its
        return its

    def _drop(self, refs: Iterable[FunctionRef]) -> None:
        for ref in refs:
            self.forget(ref)


def _strategy_of(report: GroupReport) -> str:
    return "+".join(report.strategies)


def _view_of(report: GroupReport) -> WorkerView:
    return WorkerView(report.worker, 0, 0, frozenset(), lanes=report.lanes)
