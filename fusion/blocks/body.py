"""How one graph runs in blocks: cut, planned within so many bytes, and as code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fusion.blocks import plan as plans
from fusion.blocks.cut import Cut, cut
from fusion.blocks.records import BlockPlan, Extent, Load, Piece
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

    @property
    def bytes(self) -> int:
        """Most bytes that its weights take."""
        return self.plan.peak_bytes + plans.MAPPED_AROUND_BYTES

    @cached_property
    def code(self) -> Stepwise:
        """Pauses before each block; holds no weights."""
        from fusion.blocks.code import generate_stepwise

        begins = [self.steps[block.begin].begin for block in self.plan.blocks]
        return generate_stepwise(self.graph, begins)


def least_bytes(graph: Graph, index: WeightsIndex) -> int:
    """The smallest budget for the weights in which this graph runs; no torch."""
    found = _stepped(cut(graph, index, LEAST_PIECE_BYTES))
    least = plans.least_bytes(*_plain(found, [0.0] * len(found.graph.nodes)))
    return least + plans.MAPPED_AROUND_BYTES


def in_blocks(
    graph: Graph,
    index: WeightsIndex,
    available_bytes: int,
    rates: Rates,
    read_bytes_per_s: float,
    rows: int = 1,
    is_cpu: bool = True,
) -> BlockedGraph:
    """The fastest way found; BudgetExceeded names the least bytes that would do."""
    from fusion.blocks.times import estimate
    from fusion.specialise import for_cpu

    found: list[BlockedGraph] = []
    tried: set[tuple[Piece, ...]] = set()
    for_plan_bytes = available_bytes - plans.MAPPED_AROUND_BYTES
    limits = {max(LEAST_PIECE_BYTES, available_bytes // parts) for parts in _PIECE_PARTS}
    for limit in sorted(limits | {LEAST_PIECE_BYTES}, reverse=True):
        made = cut(graph, index, limit)
        # pieces of the least size are for budgets that hold no others
        if made.pieces in tried or (found and limit == LEAST_PIECE_BYTES):
            continue
        tried.add(made.pieces)
        for variant in (made._replace(graph=for_cpu(made.graph)), made) if is_cpu else (made,):
            stepped = _stepped(variant)
            seconds = estimate(stepped.graph, rates, rows)
            try:
                plan = plans.make_plan(*_plain(stepped, seconds), for_plan_bytes, read_bytes_per_s)
            except BudgetExceeded:
                continue
            found.append(BlockedGraph(stepped.graph, stepped.pieces, stepped.steps, plan))
            break
    if not found:
        raise BudgetExceeded(least_bytes(graph, index), available_bytes, "the function in blocks")
    return min(found, key=lambda each: each.plan.run_s)


@dataclass(frozen=True)
class _Stepped:
    graph: Graph
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]


def _stepped(made: Cut) -> _Stepped:
    graph = sink_views(made.graph)
    return _Stepped(graph, made.pieces, tuple(steps_of(graph, made.pieces)))


def _plain(
    stepped: _Stepped, node_s: Sequence[float]
) -> tuple[list[Load], list[Extent], frozenset[int]]:
    """What a plan is made of."""
    loads = [Load(s.weights, sum(node_s[s.begin : s.end])) for s in stepped.steps]
    extents = [Extent(piece.begin, piece.end) for piece in stepped.pieces]
    gathered = {k for k, piece in enumerate(stepped.pieces) if piece.is_gathered}
    return loads, extents, returned_weights(stepped.graph) - gathered
