"""The ways to run a group that bench/gpu_fusion.py compares: each gives all outputs."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from _gpu_models import Placed, flat
from torch import Tensor

from fusion.dag import Call, build
from fusion.errors import CaptureError
from fusion.graphs.backend import Backend
from fusion.graphs.buffers import Buffers
from fusion.graphs.cache import GraphCache
from fusion.graphs.graphs import Cache, Graphs
from fusion.graphs.group import GRAPHS, WAYS, Way, run_all
from fusion.graphs.member import MemberGraph
from fusion.members import Member, arrange

ROOM_BYTES = 1 << 50  # the device is the limit here
Outputs = list[list[Tensor]]  # per function
Variant = Callable[[], Outputs]


def captured(functions: Sequence[Placed], backend: Backend) -> Graphs:
    """As a worker captures them, one after another until nothing is lacking."""
    cache: Cache = GraphCache(ROOM_BYTES)
    graphs = Graphs(backend, cache)
    while graphs.capture_next([function.part for function in functions]):
        pass
    for (architecture, _), reason in graphs.refused.items():
        print(f"not captured: {architecture[:12]}: {reason}", file=sys.stderr)
    return graphs


def fused(functions: Sequence[Placed], graphs: Graphs) -> Variant:
    """A worker's fused DAG of the group, which finds its captured runs in `graphs`."""
    members = [Member(function.program, 1) for function in functions]
    order = arrange(members)
    dag = build(members, graphs=graphs)
    calls = [Call(functions[k].weights, [functions[k].inputs]) for k in order]

    def run() -> Outputs:
        found = dict(zip(order, dag.run(calls), strict=True))
        return [found[k][0] for k in range(len(functions))]  # type: ignore[misc]  # no job fails

    run()
    print(f"fused: {dag.strategy} of {dag.measured}", file=sys.stderr)
    return run


def member_of(function: Placed, graphs: Graphs) -> MemberGraph | None:
    """The function's own graph; None where it has none."""
    with graphs.cache.using(function.part.key) as member:
        return member if isinstance(member, MemberGraph) else None


def ways_of(
    functions: Sequence[Placed],
    members: Sequence[MemberGraph | None],
    backend: Backend,
    stack: ExitStack,
) -> dict[str, Variant]:
    """Every way by itself; what has no graph runs after the others in all of them.

    `stack` closes them.
    """
    there = [k for k, member in enumerate(members) if member is not None]
    kept = [member for member in members if member is not None]
    parts = [functions[k].part for k in there]
    made: dict[str, Way | None] = {GRAPHS: None}
    for name, make in WAYS.items():
        try:
            made[name] = way = make(backend, parts, kept)
            stack.callback(way.captured.close)
        except (CaptureError, RuntimeError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)

    def run(way: Way | None) -> Outputs:
        jobs = [functions[k].inputs for k in there]
        found = dict(zip(there, run_all(kept, way, jobs), strict=True))
        return [found.get(k) or function.generated() for k, function in enumerate(functions)]

    return {name: partial(run, way) for name, way in made.items()}


def eager_graphs(functions: Sequence[Placed], backend: Backend, stack: ExitStack) -> Variant | None:
    """Each model's own graph; None where one cannot be captured. `stack` closes them."""
    graphs = []
    for function in functions:
        buffers = Buffers(function.program.graph, 1, backend.device)

        def body(function: Placed = function, buffers: Buffers = buffers) -> list[Tensor]:
            return flat(function.module(*buffers.inputs))

        try:
            recorded, (outputs,) = backend.capture([body])
        except RuntimeError as error:
            print(f"eager graphs are left out: {function.name}: {error}", file=sys.stderr)
            return None
        graphs.append(MemberGraph(buffers, recorded, outputs))
        stack.callback(graphs[-1].close)
    return lambda: [
        graph.run(function.inputs) for graph, function in zip(graphs, functions, strict=True)
    ]


def difference(found: Outputs, expected: Outputs) -> float:
    """The largest over all outputs, relative to the largest value of its tensor, or to 1."""
    return max(
        float((a.double() - b.double()).abs().max()) / max(1.0, float(b.double().abs().max()))
        for its, theirs in zip(found, expected, strict=True)
        for a, b in zip(its, theirs, strict=True)
    )
