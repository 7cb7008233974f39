"""The fused DAG: the one executable of a group. It holds code, never weights."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.codegen import Program
from fusion.errors import IntegrityError
from fusion.merge import merge
from fusion.plan import AnyJob, JobResult, make_plan
from fusion.prefix import merge_prefix
from fusion.strategies.branches import Branches
from fusion.strategies.choice import Choice
from fusion.strategies.lanes import Lanes
from fusion.strategies.prefix import Prefix
from fusion.strategies.serial import Serial
from fusion.strategies.work import Outcome, Strategy, Work, attempt


class Member(NamedTuple):
    """A function's place in a group, without its weights."""

    program: Program
    rows: int  # the row bucket: the most rows of a run
    weight_keys: tuple[Hashable, ...] | None = None  # content hash per weight, where known

    @property
    def architecture(self) -> str:
        """Digest of the member's graph."""
        return self.program.graph.architecture


class Call(NamedTuple):
    """What one member runs on: its weights in the graph's order, and jobs of its function."""

    weights: Sequence[Tensor]
    jobs: Sequence[AnyJob]


class DagKey(NamedTuple):
    """Two groups of equal key may share a DAG."""

    members: tuple[tuple[str, int], ...]  # (architecture, row bucket), sorted
    shared: tuple[
        tuple[int, int, int, int], ...
    ]  # (member, weight) is the same as (member, weight)


def arrange(members: Sequence[Member]) -> list[int]:
    """The order in which a DAG holds these members, as indices."""
    return sorted(range(len(members)), key=lambda k: (members[k].architecture, members[k].rows))


def dag_key(members: Sequence[Member]) -> DagKey:
    """The key of the DAG of these members."""
    ordered = [members[k] for k in arrange(members)]
    shared = []
    seen: dict[Hashable, tuple[int, int]] = {}
    for k, member in enumerate(ordered):
        for i, key in enumerate(member.weight_keys or ()):
            unique = (key, *member.program.graph.weights[i][1:])
            if unique in seen:
                shared.append((*seen[unique], k, i))
            seen.setdefault(unique, (k, i))
    return DagKey(tuple((m.architecture, m.rows) for m in ordered), tuple(shared))


def build(members: Sequence[Member], lanes: Lanes | None = None) -> "FusedDag":
    """Build the DAG of a group; milliseconds. Without lanes members run one after another."""
    started_s = perf_counter()
    ordered = tuple(members[k] for k in arrange(members))
    strategies: dict[str, Strategy] = {"serial": attempt_each}
    held_bytes = 0
    if len(ordered) > 1:
        graphs = [m.program.graph for m in ordered]
        weight_keys = [m.weight_keys for m in ordered]
        serial = Serial(merge(graphs, weight_keys))
        strategies = {"serial": serial}
        held_bytes = serial.bytes
        shared = merge_prefix(graphs, weight_keys)
        if shared is not None:
            prefix = Prefix(shared, serial)
            strategies["prefix"] = prefix
            held_bytes += prefix.bytes
        if lanes is not None and lanes.count > 1:
            strategies["branches"] = Branches(lanes, [_estimate(m) for m in ordered])
    return FusedDag(
        members=ordered,
        key=dag_key(ordered),
        bytes=held_bytes,
        build_s=perf_counter() - started_s,
        strategies=strategies,
        choice=Choice(list(strategies)),
    )


@dataclass(frozen=True, eq=False)
class FusedDag:
    """Runs a group. One thread at a time; `members` are in the order of `arrange`."""

    members: tuple[Member, ...]
    key: DagKey
    bytes: int  # host bytes of the merged code; members' programs belong to their architectures
    build_s: float
    strategies: Mapping[str, Strategy]
    choice: Choice

    @property
    def measured(self) -> dict[str, float]:
        """Median seconds of each strategy's latest runs."""
        return self.choice.measured

    @property
    def strategy(self) -> str:
        """The strategy of the next run."""
        return self.choice.name()

    def run(self, calls: Sequence[Call]) -> list[list[JobResult]]:
        """Per call and job its outputs, or a MemberError; call k belongs to `members[k]`.

        A member that loses rows has an IntegrityError as cause. Raises IntegrityError itself when
        the calls do not fit the members.
        """
        if len(calls) != len(self.members):
            raise IntegrityError(f"{len(calls)} calls for {len(self.members)} members")
        with torch.inference_mode():
            plans = [
                make_plan(k, self.members[k].program, call.weights, call.jobs)
                for k, call in enumerate(calls)
            ]
            outcomes = self._run([plan.work for plan in plans if plan.work is not None])
            found = iter(outcomes)
            return [
                plan.run_apart() if plan.work is None else plan.results(next(found))
                for plan in plans
            ]

    def _run(self, works: Sequence[Work]) -> list[Outcome]:
        if len(works) != len(self.members):  # some member's jobs cannot share a run
            return [attempt(work) for work in works]
        name = self.choice.name()
        started_s = perf_counter()
        outcomes = self.strategies[name](works)
        if self.choice.is_open:
            _synchronize(works[0].inputs[0])
            self.choice.record(name, perf_counter() - started_s)
        return outcomes


def attempt_each(works: Sequence[Work]) -> list[Outcome]:
    """One after another, each by its own program."""
    return [attempt(work) for work in works]


def _estimate(member: Member) -> float:
    """Relative cost before anything is measured: bytes touched and calls made."""
    graph = member.program.graph
    return graph.weight_bytes * member.rows + 10_000.0 * len(graph.nodes)


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:  # kernels run on: without it only their launch is measured
        torch.cuda.synchronize(x.device)
