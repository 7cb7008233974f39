"""Static graphs of one module, one per row bucket, over one set of weights."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from fusion.bindings import dtype_name
from fusion.check import is_close
from fusion.codegen import Program
from fusion.ir import Graph, WeightSpec
from fusion.passes.rewrite import Weights
from fusion.probes import probe_inputs


def share_weights(parts: Sequence[tuple[Graph, Weights]]) -> tuple[tuple[Graph, ...], Weights]:
    """The graphs over the union of their weights; a tensor of equal content is one weight.

    Passes name what they fold after the graph it came from: a mask of 4 rows is not one of 2.
    """
    union: Weights = {}
    names: dict[tuple[object, ...], list[str]] = {}
    graphs = []
    for graph, weights in parts:
        specs: list[WeightSpec] = []
        for spec in graph.weights:
            known = names.setdefault(_content(weights[spec.name]), [])
            name = _known_name(spec, graph, known, {other.name for other in specs})
            if name is None:
                name = (
                    spec.name if spec.name not in union else f"{spec.name}.rows{graph.fixed_rows}"
                )
                known.append(name)
                union[name] = weights[spec.name]
            specs.append(spec._replace(name=name))
        graphs.append(replace(graph, weights=tuple(specs)))
    return tuple(graphs), union


def _known_name(spec: WeightSpec, graph: Graph, known: list[str], taken: set[str]) -> str | None:
    """Its own, or one that no other weight of its graph has."""
    if spec.name in known:
        return spec.name
    taken = taken | {other.name for other in graph.weights}
    return next((name for name in known if name not in taken), None)


def _content(tensor: Tensor) -> tuple[object, ...]:
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return dtype_name(tensor.dtype), tuple(tensor.shape), hashlib.sha256(data).digest()


def are_independent(
    programs: Sequence[Program], weights: Weights, example: Mapping[str, Tensor]
) -> bool:
    """Whether a row's outputs depend on that row alone: on no other, nor its place, nor the bucket.

    It licenses joining rows of different jobs, and filling a bucket up with rows of no meaning.
    """
    with torch.inference_mode():
        held = [_Bucket(program, weights, example) for program in programs]
        return all(bucket.ignores_others() for bucket in held) and all(
            large.agrees_with(small) for small, large in pairwise(held)
        )


class _Bucket:
    """A static graph that is probed."""

    def __init__(self, program: Program, weights: Weights, example: Mapping[str, Tensor]) -> None:
        rows = program.graph.fixed_rows
        assert rows is not None
        self.rows = rows
        self._program = program
        self._weights = [weights[spec.name] for spec in program.graph.weights]
        self._inputs = self._probe(example, 2)
        self._others = self._probe(example, 3)
        self._outputs = self._run(self._inputs)

    def ignores_others(self) -> bool:
        """Rows in other places, beside other rows, give what they gave."""
        turned = self._run([x.roll(1, 0) for x in self._inputs])
        if not _are_close(turned, [y.roll(1, 0) for y in self._outputs]):
            return False
        return all(self._is_same_beside_others(kept) for kept in {1, self.rows - 1} - {0})

    def agrees_with(self, small: "_Bucket") -> bool:
        """f(cat(a, b, ..)) == cat(f(a), f(b), ..), computed by a smaller bucket."""
        starts = range(0, self.rows, small.rows)
        if self.rows % small.rows:
            return False
        parts = [small._run([x[k : k + small.rows] for x in self._inputs]) for k in starts]
        return _are_close(
            self._outputs, [torch.cat(outputs) for outputs in zip(*parts, strict=True)]
        )

    def _is_same_beside_others(self, kept: int) -> bool:
        mixed = [
            torch.cat([x[:kept], other[kept:]])
            for x, other in zip(self._inputs, self._others, strict=True)
        ]
        return _are_close([y[:kept] for y in self._run(mixed)], [y[:kept] for y in self._outputs])

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return self._program.run(self._weights, [x.contiguous() for x in inputs])

    def _probe(self, example: Mapping[str, Tensor], seed: int) -> list[Tensor]:
        named = probe_inputs(example, self.rows, seed)
        return [named[spec.name] for spec in self._program.graph.inputs]


def _are_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(is_close(a, b) for a, b in zip(found, expected, strict=True))
