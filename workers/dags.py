"""Runs of several functions as fused DAGs, from the cache where it has them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar
from weakref import ref

import numpy as np
import torch

from contract.tensors import Tensor, Tensors
from fusion import dag
from fusion.cache import DagCache
from fusion.codegen import Program, generate
from fusion.dag import FusedDag
from fusion.errors import MemberError
from fusion.graphs.graphs import Graphs
from fusion.graphs.member import Part
from fusion.ir import Graph
from fusion.measurements import HotGroup
from fusion.members import DagKey, Member, arrange, dag_key
from fusion.plan import row_bucket
from fusion.strategies.lanes import Lanes
from fusion.tiers import Measured
from workers.measuring import in_ms

# groups that reports show, and that are warm at the next start
SHOWN = 32
# groups whose runs are counted; the least recent go
COUNTED = 1024
# strategies that run no member's own code
MERGED = frozenset({"prefix", "stack"})

Group = tuple[tuple[str, int], ...]
# of one function, in the graph's order, device
Weights = Sequence[torch.Tensor]
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Call(NamedTuple):
    """The jobs of one function in a run; `graph` has the function's own names."""

    name: str
    graph: Graph
    program: Program
    # content hash per weight, in the graph's order
    weight_keys: tuple[str, ...]
    # in the graph's order, device
    weights: list[torch.Tensor]
    jobs: list[Tensors]
    # of all jobs
    rows: int


class _Shown(NamedTuple):
    """What reports are asked for: weak, for what the cache has evicted is gone."""

    fused: ref[FusedDag]
    # functions in the order of its members
    members: tuple[str, ...]


class DagRun(NamedTuple):
    """What a run gave: per call and job its outputs, host, or why there are none."""

    results: list[list[Tensors | MemberError]]
    build_s: float
    compute_s: float
    strategy: str = "serial"
    # per call; "" where its code was merged with others'
    tiers: Sequence[str] = ()
    # per call, where members ran one after another
    member_s: Sequence[float] = ()
    # whether no cache had the DAG
    is_built: bool = False


class Dags:
    """Runs calls on one device, one run at a time."""

    def __init__(
        self,
        cache: DagCache[DagKey, FusedDag],
        device: torch.device,
        lanes: Lanes | None,
        known: Callable[[str], Measured] = lambda _: {},
        generate_merged: Callable[[Graph, tuple[int, ...]], Program] = generate,
        graphs: Graphs | None = None,
    ) -> None:
        self._cache = cache
        self._device = device
        self._lanes = lanes
        self._known = known
        self._generate_merged = generate_merged
        self._graphs = graphs
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        # function and row bucket of each member; its runs
        self._runs: OrderedDict[Group, int] = OrderedDict()

    def strategies(self) -> dict[str, str]:
        """The strategies of the newest runs of several functions, for people."""
        return {name: fused.strategy for name, fused, _ in self._newest()}

    def measured(self) -> dict[str, dict[str, float]]:
        """Milliseconds of each strategy of these runs, for people."""
        return {name: in_ms(fused.measured) for name, fused, _ in self._newest()}

    def lanes(self) -> dict[str, list[list[str]]]:
        """The functions that each thread runs of these groups side by side, for people."""
        return {
            name: [[members[k] for k in lane] for lane in lanes]
            for name, fused, members in self._newest()
            if (lanes := fused.lanes)
        }

    def _newest(self) -> list[tuple[str, FusedDag, tuple[str, ...]]]:
        found = [(name, its.fused(), its.members) for name, its in self._shown.copy().items()]
        return [(name, fused, members) for name, fused, members in found if fused is not None]

    def merged_programs(self) -> list[Program]:
        """Programs of the DAGs that have one of their own."""
        return [program for fused in self._cache.entries() for program in fused.merged_programs]

    def hot(self) -> list[HotGroup]:
        """The groups that ran most."""
        runs = sorted(self._runs.copy().items(), key=lambda item: -item[1])
        return [HotGroup(members, count) for members, count in runs[:SHOWN]]

    def prepare(self, members: Sequence[Member]) -> None:
        """Build a group's DAG, or find it."""
        with self._cache.get(dag_key(members), lambda: self._build(members)):
            pass  # it stays in the cache

    def _build(self, members: Sequence[Member]) -> FusedDag:
        return dag.build(members, self._lanes, self._known, self._generate_merged, self._graphs)

    @torch.inference_mode()
    def capture_next(self, members: Sequence[Member], weights: Sequence[Weights]) -> bool:
        """Capture what a group lacks to be repeated as a whole, one graph; False: it lacks nothing.

        Nothing else may run meanwhile.
        """
        if self._graphs is None:
            return False
        with self._cache.get(dag_key(members), lambda: self._build(members)) as fused:
            # what a shared prefix saves, graphs of the members would do again
            if not fused.is_apart:
                return False
        parts = [Part(m.program, w, m.rows) for m, w in zip(members, weights, strict=True)]
        return self._graphs.capture_next(parts)

    @torch.inference_mode()
    def run(self, calls: Sequence[Call]) -> DagRun:
        """Run the calls as one fused DAG; raises what concerns all of them."""
        began_s = time.perf_counter()
        is_alone = len(calls) == 1
        members = [make_member(c.program, c.rows, c.weight_keys, is_alone) for c in calls]
        order = arrange(members)
        built: list[FusedDag] = []

        def build() -> FusedDag:
            built.append(self._build(members))
            return built[0]

        with self._cache.get(dag_key(members), build) as fused:
            built_s = time.perf_counter()
            results = self._run_on(fused, calls, order)
            found = _run_of(fused, order, results, built_s - began_s, bool(built))
            self._note([calls[k] for k in order], fused)
        return found._replace(compute_s=time.perf_counter() - built_s)

    @torch.inference_mode()
    def run_alone(self, call: Call) -> DagRun:
        """Run a call whose program is its own: no other function could share its DAG."""
        began_s = time.perf_counter()
        fused = dag.build([make_member(call.program, call.rows, call.weight_keys, True)])
        built_s = time.perf_counter()
        results = self._run_on(fused, [call], [0])
        found = _run_of(fused, [0], results, built_s - began_s, True)
        return found._replace(compute_s=time.perf_counter() - built_s)

    def _run_on(
        self, fused: FusedDag, calls: Sequence[Call], order: Sequence[int]
    ) -> list[list[Tensors | MemberError]]:
        inputs = [dag.Call(calls[k].weights, self._inputs(calls[k])) for k in order]
        found = dict(zip(order, fused.run(inputs), strict=True))
        return [
            [_to_host(call.graph, result) for result in found[k]] for k, call in enumerate(calls)
        ]

    def _inputs(self, call: Call) -> list[list[torch.Tensor]]:
        return [
            [_to_torch(job[spec.name]).to(self._device) for spec in call.graph.inputs]
            for job in call.jobs
        ]

    def _note(self, calls: Sequence[Call], fused: FusedDag) -> None:
        group = tuple(sorted((call.name, row_bucket(call.rows)) for call in calls))
        _keep(self._runs, group, self._runs.get(group, 0) + 1, COUNTED)
        if len(calls) > 1:
            name = " + ".join(sorted(f"{call.name} x{call.rows}" for call in calls))
            shown = _Shown(ref(fused), tuple(call.name for call in calls))
            _keep(self._shown, name, shown, SHOWN)


def _run_of(
    fused: FusedDag,
    order: Sequence[int],
    results: list[list[Tensors | MemberError]],
    build_s: float,
    is_built: bool,
) -> DagRun:
    """How the DAG ran, by call; `order[k]` is the call of its member k. Without compute time."""
    is_merged = fused.ran in MERGED
    tiers, member_s = [""] * len(order), [0.0] * len(order)
    for k, (call, member) in enumerate(zip(order, fused.members, strict=True)):
        tiers[call] = "" if is_merged else member.program.tiers.ran
        if fused.member_s:
            member_s[call] = fused.member_s[k]
    known_s = member_s if fused.member_s else []
    return DagRun(results, build_s, 0.0, fused.ran, tiers, known_s, is_built)


def _keep(entries: OrderedDict[K, T], key: K, value: T, most: int) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > most:
        entries.popitem(last=False)


def make_member(
    program: Program, rows: int, weight_keys: tuple[str, ...], is_alone: bool
) -> Member:
    """A function's place in a group."""
    # a static graph always runs with its own rows
    rows = program.graph.fixed_rows or rows
    # one function shares tensors with no other: its key is cheaper without them
    return Member(program, row_bucket(rows), None if is_alone else weight_keys)


def _to_torch(array: Tensor) -> torch.Tensor:
    # unpacked arrays are read-only views of the payload, which torch does not take
    return torch.from_numpy(array if array.flags.writeable else np.array(array))


def _to_host(graph: Graph, result: list[torch.Tensor] | MemberError) -> Tensors | MemberError:
    if isinstance(result, MemberError):
        return result
    # copies: an output may be a view of weights, which are given up with the lease
    return {
        output.spec.name: np.array(tensor.cpu().numpy())
        for output, tensor in zip(graph.outputs, result, strict=True)
    }
