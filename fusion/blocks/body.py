"""How one graph runs in blocks: cut, planned within so many bytes, and as code."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fusion.blocks import plan as plans
from fusion.blocks.cut import Cut, cut
from fusion.blocks.observed import Measured
from fusion.blocks.records import BlockPlan, Extent, Load, Piece
from fusion.blocks.ring import Range
from fusion.blocks.schedule import played_s
from fusion.blocks.steps import Step, returned_weights, sink_views, steps_of
from fusion.errors import BudgetExceeded
from fusion.ir import Graph
from fusion.weights import WeightsIndex

if TYPE_CHECKING:  # the least bytes are known without torch
    from fusion.blocks.code import Stepwise
    from fusion.blocks.times import Rates

# no weight is split further: a read of less is mostly waiting
LEAST_PIECE_BYTES = 2**20
# of the bytes there are, the largest pieces that are tried
_PIECE_PARTS = (2, 4)


@dataclass(frozen=True)
class BlockedGraph:
    """A graph ready to run in blocks; its weights are pieces of the file."""

    graph: Graph
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    plan: BlockPlan
    # how it was cut: times of steps hold for this cut alone
    cut_key: str
    available_bytes: int
    # whether the plan is made of measured times; and whether no other is to be looked for
    is_measured: bool = False
    is_settled: bool = False

    @property
    def bytes(self) -> int:
        """Most bytes that its weights take."""
        return self.plan.peak_bytes

    @cached_property
    def code(self) -> Stepwise:
        """Pauses before each step; holds no weights."""
        from fusion.blocks.code import generate_stepwise

        return generate_stepwise(self.graph, [step.begin for step in self.steps])


def least_bytes(graph: Graph, index: WeightsIndex) -> int:
    """The smallest budget for the weights in which this graph runs; no torch."""
    found = _stepped(cut(graph, index, LEAST_PIECE_BYTES))
    return plans.least_bytes(*_plain(found, [0.0] * len(found.steps)))


def in_blocks(
    graph: Graph,
    index: WeightsIndex,
    available_bytes: int,
    rates: Rates,
    read_bytes_per_s: float,
    rows: int = 1,
    known: Mapping[str, Measured] | None = None,
    is_cpu: bool = True,
) -> BlockedGraph:
    """The fastest way found; BudgetExceeded names the least bytes that would do.

    `known` has, by cut, what runs have taken: of a graph with such cuts no other is looked at.
    """
    from fusion.blocks.times import estimate

    known = known or {}

    def times_of(stepped: _Stepped) -> Measured:
        times = known.get(stepped.cut_key)
        if times is not None and times.is_better and len(times.step_s) == len(stepped.steps):
            return times
        node_s = estimate(stepped.graph, rates, rows)
        step_s = tuple(sum(node_s[step.begin : step.end]) for step in stepped.steps)
        return Measured(step_s, read_bytes_per_s, is_better=False)

    found: list[BlockedGraph] = []
    for variants in _cuts(graph, index, available_bytes, known, found, is_cpu):
        for stepped in variants:
            times = times_of(stepped)
            try:
                found.append(_planned(stepped, available_bytes, times, stepped.cut_key in known))
            except BudgetExceeded:
                continue
            break
    if not found and known:
        return in_blocks(
            graph, index, available_bytes, rates, read_bytes_per_s, rows, is_cpu=is_cpu
        )
    if not found:
        raise BudgetExceeded(least_bytes(graph, index), available_bytes, "the function in blocks")
    return min(found, key=lambda each: each.plan.run_s)


def replanned(body: BlockedGraph, times: Measured) -> BlockedGraph:
    """The same cut, planned by these times."""
    stepped = _Stepped(body.graph, body.pieces, body.steps, body.cut_key)
    return _planned(stepped, body.available_bytes, times, is_settled=False)


def replayed_s(body: BlockedGraph, times: Measured) -> float:
    """What its own plan would take by these times."""
    blocks = body.plan.blocks
    ranges = [
        Range(b.begin, b.end, b.extents, b.spans, b.bytes, sum(times.step_s[b.begin : b.end]))
        for b in blocks
    ]
    return played_s(ranges, [block.after for block in blocks], times.read_bytes_per_s)


@dataclass(frozen=True)
class _Stepped:
    graph: Graph
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    cut_key: str = ""


def _cuts(
    graph: Graph,
    index: WeightsIndex,
    available_bytes: int,
    known: Collection[str],
    found: Sequence[BlockedGraph],
    is_cpu: bool,
) -> Iterator[Iterator[_Stepped]]:
    """For each size of pieces the variants of the graph, those with oneDNN's convolutions first."""
    # powers of two: a cut is the same for budgets that are about the same
    limits = {
        max(LEAST_PIECE_BYTES, 2 ** ((available_bytes // parts).bit_length() - 1))
        for parts in _PIECE_PARTS
        if available_bytes >= parts
    }
    tried: set[tuple[Piece, ...]] = set()
    for limit in sorted(limits | {LEAST_PIECE_BYTES}, reverse=True):
        # pieces of the least size are for budgets that hold no others
        if found and limit == LEAST_PIECE_BYTES:
            continue
        keys = [key for key in (f"{limit}/onednn", f"{limit}/generated") if key in known]
        if known and not keys:
            continue
        made = cut(graph, index, limit)
        if made.pieces not in tried:
            tried.add(made.pieces)
            yield _variants(made, limit, keys or ([] if is_cpu else [f"{limit}/generated"]))


def _variants(made: Cut, limit: int, keys: Sequence[str]) -> Iterator[_Stepped]:
    """Those of these keys, or all."""
    from fusion.specialise import for_cpu

    for key, graph_of in ((f"{limit}/onednn", for_cpu), (f"{limit}/generated", _as_it_is)):
        if key in keys or not keys:
            yield _stepped(made._replace(graph=graph_of(made.graph)), key)


def _as_it_is(graph: Graph) -> Graph:
    return graph


def _planned(
    stepped: _Stepped, available_bytes: int, times: Measured, is_settled: bool
) -> BlockedGraph:
    """Raises BudgetExceeded."""
    loads, extents, must_stay = _plain(stepped, times.step_s)
    plan = plans.make_plan(loads, extents, must_stay, available_bytes, times.read_bytes_per_s)
    return BlockedGraph(
        stepped.graph,
        stepped.pieces,
        stepped.steps,
        plan,
        stepped.cut_key,
        available_bytes,
        times.is_better,
        is_settled,
    )


def _stepped(made: Cut, cut_key: str = "") -> _Stepped:
    graph = sink_views(made.graph)
    return _Stepped(graph, made.pieces, tuple(steps_of(graph, made.pieces)), cut_key)


def _plain(
    stepped: _Stepped, step_s: Sequence[float]
) -> tuple[list[Load], list[Extent], frozenset[int]]:
    """What a plan is made of."""
    loads = [Load(s.weights, each_s) for s, each_s in zip(stepped.steps, step_s, strict=True)]
    extents = [Extent(piece.begin, piece.end) for piece in stepped.pieces]
    gathered = {k for k, piece in enumerate(stepped.pieces) if piece.is_gathered}
    return loads, extents, returned_weights(stepped.graph) - gathered
