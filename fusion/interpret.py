"""Run a graph node by node: to fold constants, and to measure what activations take."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.bindings import binding, dtype
from fusion.codegen import Program, last_uses
from fusion.ir import Arg, DType, Graph, MemoryFormat, Node, Ref
from fusion.operators import FACTORIES, operator

Fetch = Callable[[Ref], Any]


def evaluate(node: Node, fetch: Fetch, device: torch.device) -> list[Any]:
    """The results of one node."""
    args = [_resolve(a, fetch) for a in node.args]
    kwargs = {name: _resolve(a, fetch) for name, a in node.kwargs}
    if node.operator in FACTORIES:
        kwargs["device"] = device
    result = binding(node.operator)(*args, **kwargs)
    return list(result) if operator(node.operator).has_several else [result]


def measure_activation_bytes(
    program: Program, weights: Sequence[Tensor], inputs: Sequence[Tensor]
) -> int:
    """Largest sum of live inputs, activations and outputs, in bytes, each storage once.

    Scratch that an operator frees before it returns is not seen.
    """
    with torch.inference_mode():
        return _Liveness(program.graph, weights, inputs).peak_bytes()


def _resolve(value: Arg, fetch: Fetch) -> Any:
    if isinstance(value, Ref):
        return fetch(value)
    if isinstance(value, tuple):
        return [_resolve(item, fetch) for item in value]
    if isinstance(value, DType):
        return dtype(value.name)
    if isinstance(value, MemoryFormat):
        return getattr(torch, value.name)
    return value


class _Liveness:
    """Counts how many live values hold each storage, and the bytes of those held."""

    def __init__(self, graph: Graph, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        self.graph = graph
        self.values: dict[Ref, Any] = {Ref("weight", i): w for i, w in enumerate(weights)}
        self.free = {w.untyped_storage().data_ptr() for w in weights}  # not an activation
        self.holders: dict[int, int] = {}
        self.live_bytes = 0
        self.device = inputs[0].device
        for i, x in enumerate(inputs):  # the caller holds its inputs until the end
            self._hold(Ref("input", i), x)

    def peak_bytes(self) -> int:
        peak_bytes = self.live_bytes
        dead = last_uses(self.graph)
        for index, node in enumerate(self.graph.nodes):
            for k, value in enumerate(evaluate(node, self.values.__getitem__, self.device)):
                self._hold(Ref("node", index, k), value)
            peak_bytes = max(peak_bytes, self.live_bytes)
            for ref in dead[index]:
                if ref.kind == "node":
                    self._release(self.values.pop(ref))
        return peak_bytes

    def _hold(self, ref: Ref, value: Any) -> None:
        self.values[ref] = value
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            holders = self.holders.get(storage.data_ptr(), 0)
            self.holders[storage.data_ptr()] = holders + 1
            if not holders and storage.data_ptr() not in self.free:
                self.live_bytes += storage.nbytes()

    def _release(self, value: Any) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            self.holders[storage.data_ptr()] -= 1
            if not self.holders[storage.data_ptr()] and storage.data_ptr() not in self.free:
                self.live_bytes -= storage.nbytes()
