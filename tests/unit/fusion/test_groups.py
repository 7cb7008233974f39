"""Random small graphs in random groups: fused equals separate, by every strategy and tier."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.codegen import Program, generate
from fusion.dag import Call, FusedDag, build
from fusion.errors import MemberError
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.members import Member, arrange
from fusion.specialise import for_cpu, specialised
from fusion.strategies.choice import Choice
from fusion.strategies.lanes import Lanes
from fusion.tiers import ONEDNN
from fusion.validate import validate

STEPS = ("relu", "tanh", "hardtanh", "neg", "weighty", "weighty", "add", "mul")
CHANNELS, SIZE = 4, 5


class Function(NamedTuple):
    """A graph, the seed of each weight (equal seeds, equal contents), and its jobs' rows."""

    graph: Graph
    seeds: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def weights(self) -> list[torch.Tensor]:
        """Small enough that chains of products stay finite."""
        found = []
        for seed, spec in zip(self.seeds, self.graph.weights, strict=True):
            generator = torch.Generator().manual_seed(seed)
            found.append(torch.randn(spec.shape, generator=generator) / 4)
        return found

    @property
    def keys(self) -> tuple[str, ...]:
        """Content keys, as a weights file gives them."""
        return tuple(
            f"{seed} {spec.shape}"
            for seed, spec in zip(self.seeds, self.graph.weights, strict=True)
        )


@st.composite
def functions(draw: st.DrawFn) -> Function:
    """An image or a vector goes through some steps over any of the values before."""
    is_image = draw(st.booleans())
    shape = (CHANNELS, SIZE, SIZE) if is_image else (CHANNELS,)
    values, nodes, weights = [Ref("input", 0)], [], []
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8)):
        x = values[-1 - draw(st.integers(0, min(2, len(values) - 1)))]
        if step == "weighty":
            kernel = (CHANNELS, CHANNELS, 3, 3) if is_image else (CHANNELS, CHANNELS)
            w = Ref("weight", len(weights))
            weights.append(WeightSpec(f"w{len(weights)}", "float32", kernel))
            args = (x, w, None, (1, 1), (1, 1)) if is_image else (x, w)
            nodes.append(Node("conv2d" if is_image else "linear", args))
        elif step in ("add", "mul"):
            nodes.append(Node(f"{step}.Tensor", (x, values[-1])))
        else:
            nodes.append(Node(step, (x,)))
        values.append(Ref("node", len(nodes) - 1))
    output = Output(TensorSpec("y", "float32", (None, *shape)), values[-1])
    spec = TensorSpec("x", "float32", (None, *shape))
    graph = Graph((spec,), tuple(weights), tuple(nodes), (output,))
    # few seeds: contents are shared between functions, and inside of one
    seeds = draw(st.tuples(*[st.integers(0, 2) for _ in weights]))
    rows = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    return Function(validate(graph), seeds, tuple(rows))


@st.composite
def groups(draw: st.DrawFn) -> list[Function]:
    """Some functions; some of them variations of another's weights or jobs."""
    found = draw(st.lists(functions(), min_size=1, max_size=3))
    for base in draw(st.lists(st.sampled_from(found), max_size=3)):
        seeds = draw(st.tuples(*[st.sampled_from([seed, 7]) for seed in base.seeds]))
        found.append(base._replace(seeds=seeds, rows=tuple(draw(st.permutations(base.rows)))))
    return found


@pytest.fixture(scope="module")
def lanes():
    """Two threads."""
    with Lanes(2) as found:
        yield found


@settings(max_examples=150, deadline=None)
@given(group=groups(), seed=st.integers(0, 999))
def test_a_random_group_gives_each_caller_what_it_would_get_alone(lanes, group, seed):
    """Whatever strategy runs, on generated code and on oneDNN's."""
    torch.manual_seed(seed)
    jobs = [[[torch.randn(rows, *f.graph.inputs[0].shape[1:])] for rows in f.rows] for f in group]
    expected = [
        [generate(f.graph).run(f.weights, job) for job in its]
        for f, its in zip(group, jobs, strict=True)
    ]
    for make in (generate, _onednn):
        programs: dict[str, Program] = {}
        for f in group:
            programs.setdefault(f.graph.architecture, make(f.graph))
        members = [Member(programs[f.graph.architecture], 8, f.keys) for f in group]
        built = build(members, lanes)
        for strategy in built.strategies:
            fused = _only(built, strategy)
            order = arrange(members)
            calls = [Call(group[k].weights, jobs[k]) for k in order]
            for _ in range(2):
                for k, results in zip(order, fused.run(calls), strict=True):
                    _check(results, expected[k])


def _onednn(graph: Graph) -> Program:
    """A program that runs on oneDNN wherever it can."""
    program = specialised(graph, "cpu")
    if ONEDNN in program.tiers.names:
        program.tiers.know({8: {"generated": 2.0, ONEDNN: 1.0}})
        assert program.tiers.best(8) == ONEDNN
        assert for_cpu(graph) is not graph
    return program


def _only(built: FusedDag, strategy: str) -> FusedDag:
    return FusedDag(
        built.members, built.key, built.bytes, built.build_s,
        {"serial": built.strategies["serial"], strategy: built.strategies[strategy]},
        Choice(["serial", strategy], {"serial": 2.0, strategy: 1.0})
        if strategy != "serial" else Choice(["serial"]),
        built.merged_programs,
    )  # fmt: skip


def _check(results, expected) -> None:
    for actual, wanted in zip(results, expected, strict=True):
        assert not isinstance(actual, MemberError), actual
        for a, e in zip(actual, wanted, strict=True):
            scale = max(1.0, float(e.abs().max()))
            torch.testing.assert_close(a / scale, e / scale, rtol=1e-4, atol=1e-4)
