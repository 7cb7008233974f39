"""Rewrites done once per version, at deploy. Each is pure: (graph, weights) -> (graph, weights)."""

from typing import NamedTuple

from fusion.ir import Graph
from fusion.passes.aliases import remove_aliases
from fusion.passes.constants import fold_constants
from fusion.passes.conv_batchnorm import fold_conv_batchnorm
from fusion.passes.rewrite import Weights, remove_dead_code
from fusion.validate import validate

__all__ = [
    "fold_constants",
    "fold_conv_batchnorm",
    "optimise",
    "remove_aliases",
    "remove_dead_code",
]

# Aliases go first: a dropout between convolution and normalisation would hide the pair.
_ORDER = (remove_dead_code, remove_aliases, fold_conv_batchnorm, fold_constants)


class PassReport(NamedTuple):
    """What one pass did."""

    name: str
    nodes_before: int
    nodes_after: int


def optimise(graph: Graph, weights: Weights) -> tuple[Graph, Weights, tuple[PassReport, ...]]:
    """Run every pass in order and validate what comes out."""
    reports = []
    for run in _ORDER:
        before = len(graph.nodes)
        graph, weights = run(graph, weights)
        reports.append(PassReport(run.__name__, before, len(graph.nodes)))
    return validate(graph), weights, tuple(reports)
