"""Running a function while its weights arrive: each part of the code waits for what it reads.

The waits are the device's: the host queues the whole run at once. Weights lie in the order of first
use, so the first operators need the first marks alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.blocks.code import Stepwise, generate_stepwise
from fusion.ir import Graph, Ref
from fusion.swapping.weights import ArrivingWeights
from fusion.weights import WeightsIndex

# graphs whose code is kept
KEPT = 256


class Wait(NamedTuple):
    """Before this node of the graph, data up to `end` must be there."""

    node: int
    end: int


def waits_of(graph: Graph, index: WeightsIndex, ends: Sequence[int]) -> list[Wait]:
    """Where code waits for marks with these ends, ascending: for each as late as can be.

    The first is before the first node.
    """
    entries = {entry.name: entry for entry in index.entries}
    needs = [
        entries[spec.name].offset + entries[spec.name].nbytes if spec.bytes else 0
        for spec in graph.weights
    ]
    returned = [_need(output.value, needs) for output in graph.outputs]
    last = len(graph.nodes) - 1
    waits = [Wait(0, -1)]
    for place, node in enumerate(graph.nodes):
        need = max([_need(ref, needs) for ref in node.refs()], default=0)
        if place == last:
            need = max([need, *returned])
        if need > waits[-1].end and need > 0:
            end = next((end for end in ends if end >= need), ends[-1])
            if waits[-1].node == place:
                waits.pop()
            waits.append(Wait(place, end))
    return waits


class Arriving:
    """Code that waits, of the graphs that were run so. Any thread may call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._codes: OrderedDict[tuple[str, tuple[int, ...]], Stepwise] = OrderedDict()

    @torch.inference_mode()
    def run(
        self,
        graph: Graph,
        index: WeightsIndex,
        weights: ArrivingWeights,
        inputs: Sequence[Tensor],
    ) -> list[Tensor]:
        """The outputs, which are there once all that was queued is done.

        Views of weights are best made where they are read (`sink_views`): at once, they would wait
        for all of them.
        """
        by_name = dict(zip([e.name for e in index.entries], weights.tensors, strict=True))
        marks = dict(weights.marks)
        waits = waits_of(graph, index, [*marks])
        held = [by_name[spec.name] for spec in graph.weights]
        steps = self._code(graph, [wait.node for wait in waits])(held, inputs)
        outputs: list[Tensor] | None = None
        for wait in waits:
            if wait.end > 0:
                weights.wait_for(marks[wait.end])
            outputs = next(steps)
        assert outputs is not None, "the last part ends with the outputs"
        return outputs

    def _code(self, graph: Graph, begins: Sequence[int]) -> Stepwise:
        key = (graph.architecture, tuple(begins))
        with self._lock:
            if key in self._codes:
                self._codes.move_to_end(key)
                return self._codes[key]
        code = generate_stepwise(graph, begins)
        with self._lock:
            self._codes[key] = code
            if len(self._codes) > KEPT:
                self._codes.popitem(last=False)
        return code


def _need(ref: object, needs: Sequence[int]) -> int:
    return needs[ref.index] if isinstance(ref, Ref) and ref.kind == "weight" else 0
