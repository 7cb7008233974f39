"""The fused DAG: the one executable of a group. It holds code, never weights."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.codegen import Program, generate
from fusion.errors import IntegrityError
from fusion.graphs.graphs import Graphs, Replayed
from fusion.ir import Graph
from fusion.joining import Joining
from fusion.members import DagKey, Member, arrange, dag_key
from fusion.plan import AnyJob, JobResult, Plan, make_plan
from fusion.prefix import merge_prefix
from fusion.strategies.branches import Branches
from fusion.strategies.choice import Choice
from fusion.strategies.lanes import Lanes
from fusion.strategies.prefix import MergedCode, merged_rows
from fusion.strategies.stack import make_stacks
from fusion.strategies.verified import Verified
from fusion.strategies.work import (
    MEMBER_ERRORS,
    Outcome,
    Strategy,
    Work,
    attempt_each,
    time_each,
)
from fusion.tiers import Measured, synchronize

# of a DAG and of each member: what it takes beside merged code, about
_RECORD_BYTES = 1024


class Call(NamedTuple):
    """What one member runs on: its weights in the graph's order, and jobs of its function."""

    weights: Sequence[Tensor]
    jobs: Sequence[AnyJob]


def build(
    members: Sequence[Member],
    lanes: Lanes | None = None,
    known: Callable[[str], Measured] = lambda _: {},
    generate_merged: Callable[[Graph, tuple[int, ...]], Program] = generate,
    graphs: Graphs | None = None,
) -> "FusedDag":
    """Build the DAG of a group; milliseconds. Without lanes members run one after another.

    `known` gives what was measured before of the strategies of a key's digest; `generate_merged`
    makes the program of a merged graph; `graphs` are asked for captured runs of the group.
    """
    started_s = perf_counter()
    ordered = tuple(members[k] for k in arrange(members))
    key = dag_key(ordered)
    strategies: dict[str, Strategy] = {"serial": attempt_each}
    merged_programs: list[Program] = []
    held_bytes = _RECORD_BYTES * (1 + len(ordered))
    if len(ordered) > 1:
        shared = merge_prefix([m.program.graph for m in ordered], [m.weight_keys for m in ordered])
        if shared is not None:
            prefix = MergedCode(shared, generate_merged(shared.graph, shared.row_groups))
            merged_programs.append(prefix.program)
            strategies["prefix"] = Verified(prefix)
            held_bytes += prefix.bytes
        # captured, it is one of the ways of groups that are repeated
        stacks = make_stacks([m.program for m in ordered]) if graphs is None else None
        if stacks is not None:
            strategies["stack"] = Verified(stacks)
        if lanes is not None and lanes.count > 1:
            strategies["branches"] = Branches(
                lanes, [estimated_cost(m.program.graph, m.rows) for m in ordered]
            )
    return FusedDag(
        members=ordered,
        key=key,
        held_bytes=held_bytes,
        build_s=perf_counter() - started_s,
        strategies=strategies,
        choice=Choice(list(strategies), known(key.digest)),
        merged_programs=merged_programs,
        graphs=graphs if len(ordered) > 1 else None,
    )


class FusedDag:
    """Runs a group. One thread at a time; `members` are in the order of `arrange`."""

    def __init__(
        self,
        members: tuple[Member, ...],
        key: DagKey,
        held_bytes: int,
        build_s: float,
        strategies: Mapping[str, Strategy],
        choice: Choice,
        merged_programs: Sequence[Program] = (),
        graphs: Graphs | None = None,
    ) -> None:
        self.members = members
        self.key = key
        self.bytes = held_bytes  # of the host; members' programs belong to their architectures
        self.build_s = build_s
        self.strategies = strategies
        self.choice = choice
        self.merged_programs = tuple(merged_programs)
        self._graphs = graphs
        # the strategy of the latest run
        self.ran = "serial"
        # seconds of each member in it, where they are known: they ran one after another on a CPU
        self.member_s: list[float] = []
        # how the latest run was repeated, where it was
        self._replayed: Replayed | None = None
        self._sizes = [(len(m.program.graph.weights), len(m.program.graph.inputs)) for m in members]
        # of a member that runs alone
        self._joining = Joining(members[0].program, members[0].rows)
        # the members' tiers when all were settled last; runs until the choice is asked again
        self._versions: list[int] = []
        self._quiet = 0

    @property
    def measured(self) -> dict[str, float]:
        """Median seconds of each strategy's latest runs, and of ways to repeat the latest run."""
        return self.choice.measured | (self._replayed.measured if self._replayed else {})

    @property
    def strategy(self) -> str:
        """The fastest strategy, as far as is known."""
        return self._replayed.way if self._replayed else self.choice.best

    @property
    def is_apart(self) -> bool:
        """Whether its members run as they would alone, and so as captured."""
        return self.choice.is_settled and self.choice.best == "serial"

    @property
    def lanes(self) -> list[list[int]]:
        """Members per lane as `branches` would run them next; empty before it has run."""
        branches = self.strategies.get("branches")
        if not isinstance(branches, Branches) or "branches" not in self.choice.measured:
            return []
        return branches.shares

    def run(self, calls: Sequence[Call]) -> list[list[JobResult]]:
        """Per call and job its outputs, or a MemberError; call k belongs to `members[k]`.

        A member that loses rows has an IntegrityError as cause. Raises IntegrityError itself when
        the calls do not fit the members.
        """
        if not torch.is_inference_mode_enabled():
            with torch.inference_mode():
                return self.run(calls)
        if len(calls) != len(self.members):
            raise IntegrityError(f"{len(calls)} calls for {len(self.members)} members")
        self.ran, self.member_s = "serial", []
        works = self._single_jobs(calls)
        if works is not None:
            outcomes = self._run(works)
            if _are_whole(works, outcomes):
                return [[outcome] for outcome in outcomes]  # type: ignore[list-item]
        if len(calls) == 1 and len(calls[0].jobs) > 1:
            results = self._joining.run_quietly(*calls[0])
            if results is not None:
                return [results]
        plans = [
            make_plan(k, *self.members[k][:2], call.weights, call.jobs)
            for k, call in enumerate(calls)
        ]
        if len(plans) == 1 and plans[0].is_joinable:
            return [self._joining.run(plans[0], self._run_joined)]
        plans = [plan.joined() if plan.is_joinable else plan for plan in plans]
        found = iter(self._run([plan.work for plan in plans if plan.work is not None]))
        return [
            plan.run_apart() if plan.work is None else plan.results(next(found)) for plan in plans
        ]

    def _run_joined(self, plan: Plan) -> list[JobResult]:
        plan = plan.joined()
        self.ran = "concat"
        return plan.run_apart() if plan.work is None else plan.results(*self._run([plan.work]))

    def _single_jobs(self, calls: Sequence[Call]) -> list[Work] | None:
        """One job per call and nothing wrong with it, the common case: no plan is needed."""
        works = []
        for member, (weights, jobs), (weight_count, input_count) in zip(
            self.members, calls, self._sizes, strict=True
        ):
            if len(jobs) != 1 or len(weights) != weight_count:
                return None
            job = jobs[0]
            if type(job) is not list or len(job) != input_count:
                return None
            rows = job[0].size(0)
            if input_count > 1:
                for x in job:
                    if x.size(0) != rows:
                        return None
            if member.program.graph.fixed_rows not in (None, rows):
                return None
            works.append(Work(member.program, weights, job, member.rows))
        return works

    def _run(self, works: Sequence[Work]) -> list[Outcome]:
        if len(works) != len(self.members):  # some member's jobs cannot share a run
            return attempt_each(works)
        if self._graphs is not None:
            self._replayed = _repeat(self._graphs, works) if self.is_apart else None
            if self._replayed is not None:
                self.ran = self._replayed.way
                return self._replayed.outcomes
        choice = self.choice
        if not choice.is_open or not self._has_settled_members():
            return self._run_as("serial", works)
        if not self._has_settled_merged(works):
            return self._run_as("prefix", works)
        if self._quiet:
            self._quiet -= 1
            return self._run_as(choice.best, works)
        name = choice.name()
        started_s = perf_counter()
        outcomes = self._run_as(name, works)
        synchronize(works[0].inputs[0])
        choice.record(name, perf_counter() - started_s)
        self._quiet = choice.take_quiet()
        return outcomes

    def _run_as(self, name: str, works: Sequence[Work]) -> list[Outcome]:
        if len(self.members) > 1:  # of one member it says how its jobs ran
            self.ran = name
        if name != "serial" or works[0].inputs[0].is_cuda:
            return self.strategies[name](works)
        outcomes, self.member_s = time_each(works)
        return outcomes

    def _has_settled_merged(self, works: Sequence[Work]) -> bool:
        """Merged code finds its own tier before its strategy is compared with others."""
        if not self.merged_programs or self._quiet:
            return True
        bucket = merged_rows(works)
        return all(program.tiers.is_settled(bucket) for program in self.merged_programs)

    def _has_settled_members(self) -> bool:
        """First each member finds its tier, then the group its way: anew, if it had one."""
        versions = [member.program.tiers.version for member in self.members]
        for program in self.merged_programs:
            versions.append(program.tiers.version)
        if versions == self._versions:
            return True
        if all(m.program.tiers.is_settled(m.rows) for m in self.members):
            if self._versions:
                self.choice.restart()
            self._versions, self._quiet = versions, 0
            return True
        return False


def _repeat(graphs: Graphs, works: Sequence[Work]) -> Replayed | None:
    """The group's captured run; None where there is none, or members are to fail alone."""
    try:
        return graphs.run_group(works)
    except MEMBER_ERRORS:
        return None


def _are_whole(works: Sequence[Work], outcomes: Sequence[Outcome]) -> bool:
    """Whether every member ran and every output has as many rows as went in."""
    for work, outcome in zip(works, outcomes, strict=True):
        if type(outcome) is not list:
            return False
        rows = work.inputs[0].size(0)
        for output in outcome:
            if not output.dim() or output.size(0) != rows:
                return False
    return True


def estimated_cost(graph: Graph, rows: int) -> float:
    """Relative cost before anything is measured: bytes touched and calls made."""
    return graph.weight_bytes * rows + 10_000.0 * len(graph.nodes)
