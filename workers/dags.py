"""Runs of several functions as fused DAGs, from the cache where it has them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from contract.tensors import Tensor, Tensors
from fusion import dag
from fusion.cache import DagCache
from fusion.codegen import Program
from fusion.dag import DagKey, FusedDag
from fusion.errors import MemberError
from fusion.ir import Graph
from fusion.strategies.lanes import Lanes

# strategies that reports show
SHOWN = 32


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


class DagRun(NamedTuple):
    """What a run gave: per call and job its outputs, host, or why there are none."""

    results: list[list[Tensors | MemberError]]
    build_s: float
    compute_s: float


class Dags:
    """Runs calls on one device, one run at a time."""

    def __init__(
        self, cache: DagCache[DagKey, FusedDag], device: torch.device, lanes: Lanes | None
    ) -> None:
        self._cache = cache
        self._device = device
        self._lanes = lanes
        self._strategies: OrderedDict[str, str] = OrderedDict()

    def strategies(self) -> dict[str, str]:
        """The strategies of the newest runs of several functions, for people."""
        return dict(self._strategies)

    @torch.inference_mode()
    def run(self, calls: Sequence[Call]) -> DagRun:
        """Run the calls as one fused DAG; raises what concerns all of them."""
        began_s = time.perf_counter()
        members = [_member(call, is_alone=len(calls) == 1) for call in calls]
        order = dag.arrange(members)
        with self._cache.get(
            dag.dag_key(members), lambda: dag.build(members, self._lanes)
        ) as fused:
            built_s = time.perf_counter()
            inputs = [dag.Call(calls[k].weights, self._inputs(calls[k])) for k in order]
            found = dict(zip(order, fused.run(inputs), strict=True))
            results = [
                [_to_host(call.graph, result) for result in found[k]]
                for k, call in enumerate(calls)
            ]
            self._note(calls, fused)
        return DagRun(results, built_s - began_s, time.perf_counter() - built_s)

    def _inputs(self, call: Call) -> list[list[torch.Tensor]]:
        return [
            [_to_torch(job[spec.name]).to(self._device) for spec in call.graph.inputs]
            for job in call.jobs
        ]

    def _note(self, calls: Sequence[Call], fused: FusedDag) -> None:
        if len(calls) > 1:
            name = " + ".join(sorted(f"{call.name} x{call.rows}" for call in calls))
            self._strategies[name] = fused.strategy
            self._strategies.move_to_end(name)
            if len(self._strategies) > SHOWN:
                self._strategies.popitem(last=False)


def row_bucket(rows: int) -> int:
    """The power of two from `rows` on: few DAGs serve all numbers of rows."""
    return 1 << (rows - 1).bit_length()


def _member(call: Call, is_alone: bool) -> dag.Member:
    # one function shares tensors with no other: its key is cheaper without them
    keys = None if is_alone else call.weight_keys
    return dag.Member(call.program, row_bucket(call.rows), keys)


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
