"""A stacked graph gives each member what its own graph gives, straight from the members' slots."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.codegen import generate
from fusion.dag import Call, FusedDag, build
from fusion.ir import DType, Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.members import Member
from fusion.passes.channels_last import channels_last
from fusion.probes import probe_inputs
from fusion.stacking.graph import may_stack, stack_graph
from fusion.stacking.products import MOST_COPIED_BYTES
from fusion.stacking.strided import progressions, strided
from fusion.strategies.choice import Choice
from fusion.strategies.stack import make_stacks
from fusion.strategies.work import Work
from fusion.validate import validate
from tests.unit.fusion.shared import example, exported
from tests.zoo import ZOO

# Operators that have no rule: recurrent cells, padding by name, transposed kernels.
UNSTACKED = {"plain_cnn", "unet", "lstm", "gru", "in_place"}
MEMBERS = 3


def _slots(weights: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    """The same weights in one pool, each member's as far from the last's as slots are."""
    sizes = [-(-w.numel() * w.element_size() // 64) * 64 for w in weights[0]]
    pool = torch.zeros(len(weights), sum(sizes) + 128, dtype=torch.uint8)
    found = []
    for slot, its in zip(pool, weights, strict=True):
        at, views = 0, []
        for w, size in zip(its, sizes, strict=True):
            part = slot[at : at + w.numel() * w.element_size()]
            views.append(part.view(w.dtype).view(w.shape).copy_(w))
            at += size
        found.append(views)
    return found


def _varied(weights: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Other weights of the same kind."""
    generator = torch.Generator().manual_seed(seed)
    return [
        w * (1 + torch.rand(w.shape, generator=generator) / 4) if w.is_floating_point() else w
        for w in weights
    ]


def _check(graph: Graph, weights: list[list[torch.Tensor]], inputs: list[list[torch.Tensor]]):
    """Stacked equals separate; the stacked graph."""
    stacked = stack_graph(graph)
    assert stacked is not None
    slots = _slots(weights)  # held, since views hold nothing
    views = [strided(its) for its in zip(*slots, strict=True)]
    run = generate(graph).run
    with torch.inference_mode():
        found = generate(stacked).run(views, [torch.stack(xs) for xs in zip(*inputs, strict=True)])
        for k in range(len(inputs)):
            for actual, expected in zip(found, run(weights[k], inputs[k]), strict=True):
                torch.testing.assert_close(actual[k], expected, rtol=1e-4, atol=1e-5)
    return stacked


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_models_stack(name: str, rows: int) -> None:
    """Every model of the zoo that has rules for its operators, with other weights each."""
    graph = exported(name).graph
    if name in UNSTACKED:
        assert stack_graph(graph) is None
        return
    assert may_stack(graph)
    rows = graph.fixed_rows or rows
    weights = [_varied(list(exported(name).weights.values()), k) for k in range(MEMBERS)]
    inputs = []
    for k in range(MEMBERS):
        probes = probe_inputs(example(name).inputs, rows, k)
        inputs.append([probes[spec.name] for spec in graph.inputs])
    _check(graph, weights, inputs)


def test_products_of_members_are_one_call_each() -> None:
    """Nothing is copied: one batched product over views of the slots for each linear layer."""
    graph = exported("mlp").graph
    stacked = stack_graph(graph)
    assert stacked is not None
    views = ("transpose.int", "unsqueeze")
    after = [node.operator for node in stacked.nodes if node.operator not in views]
    assert after == ["baddbmm" if n.operator == "linear" else n.operator for n in graph.nodes]


def test_kernels_stay_in_the_order_of_channels_last() -> None:
    """Copied in the order of memory; activations stay in channels between convolutions."""
    graph, weights = channels_last(exported("tiny_cnn").graph, dict(exported("tiny_cnn").weights))
    stacked = _check(
        graph,
        [list(weights.values())] * MEMBERS,
        [[torch.randn(2, *graph.inputs[0].shape[1:])] for _ in range(MEMBERS)],  # type: ignore[arg-type]
    )
    for node in stacked.nodes:
        if node.operator == "conv2d" and isinstance(node.args[1], Ref):
            kernel = stacked.nodes[node.args[1].index]
            assert kernel.operator in ("permute", "flatten.using_ints")


X, Y, W, V, T, IDS = (
    *(Ref("input", i) for i in range(2)),
    *(Ref("weight", i) for i in range(3)),
    Ref("input", 2),
)


def _n(index: int, output: int = 0) -> Ref:
    return Ref("node", index, output)


# x [rows, 4, 6], y [rows, 6], ids [rows, 3] int64; w [6, 6], v [6], t [9, 6]
RULES = {
    "broadcast a vector": [Node("add.Tensor", (X, V))],
    "broadcast a smaller rank": [
        Node("sum.dim_IntList", (X, (1,))),
        Node("mul.Tensor", (W, V)),
        Node("mul.Tensor", (_n(0), _n(0))),
    ],
    "a number of rows": [Node("sym_size.int", (X, 0)), Node("mul.Scalar", (X, 2)),
                         Node("reshape", (_n(1), (_n(0), 24)))],
    "a size by a negative dimension": [Node("sym_size.int", (X, -2)),
                                       Node("reshape", (X, (-1, _n(0), 3, 2)))],
    "a mask for all": [
        Node("arange", (6,)), Node("lt.Scalar", (_n(0), 3)),
        Node("masked_fill.Scalar", (X, _n(1), 0.5)),
    ],
    "where": [Node("gt.Scalar", (X, 0.0)), Node("where.self", (_n(0), X, V))],
    "softmax": [Node("softmax.int", (X, 1))],
    "softmax from the end": [Node("softmax.int", (X, -1))],
    "mean over dimensions": [Node("mean.dim", (X, (1, -1), True))],
    "a maximum and its place": [Node("max.dim", (X, 2), (), 2),
                                Node("add.Tensor", (_n(0), _n(0, 1)))],
    "cat": [Node("cat", ((X, X), 1))],
    "cat over rows": [Node("cat", ((X, X),)), Node("slice.Tensor", (_n(0), 0, 0, 2))],
    "stack": [Node("stack", ((Y, Y), 1))],
    "chunk": [Node("chunk", (X, 2, 1), (), 2), Node("sub.Tensor", (_n(0), _n(0, 1)))],
    "select": [Node("select.int", (X, 1, 2))],
    "slice": [Node("slice.Tensor", (X, 2, 1, 5, 2))],
    "permute": [Node("permute", (X, (0, 2, 1)))],
    "transpose": [Node("transpose.int", (X, 1, 2))],
    "a view and back": [Node("view", (X, (-1, 6))), Node("linear", (_n(0), W)),
                        Node("view", (_n(1), (-1, 4, 6)))],
    "expand": [Node("unsqueeze", (Y, 1)), Node("expand", (_n(0), (-1, 5, -1)))],
    "expand a weight": [Node("expand", (V, (4, 6))), Node("add.Tensor", (X, _n(0)))],
    "linear": [Node("linear", (X, W, V))],
    "linear with a bias by name": [Node("linear", (X, W), (("bias", V),))],
    "linear without bias": [Node("linear", (Y, W))],
    "addmm": [Node("t", (W,)), Node("addmm", (V, Y, _n(0)))],
    "mm": [Node("mm", (Y, W))],
    "matmul with a weight": [Node("matmul", (X, W))],
    "matmul of activations": [Node("transpose.int", (X, 1, 2)), Node("matmul", (X, _n(0)))],
    "layer norm": [Node("layer_norm", (X, (6,), V, V))],
    "layer norm with a scale alone": [Node("layer_norm", (X, (6,), V))],
    "layer norm without weights": [Node("layer_norm", (X, (6,)))],
    "embedding": [Node("embedding", (T, IDS))],
    "positions": [Node("arange", (4,)), Node("embedding", (T, _n(0))),
                  Node("add.Tensor", (X, _n(1)))],
    "attention": [
        Node("unflatten.int", (X, 2, (2, 3))), Node("transpose.int", (_n(0), 1, 2)),
        Node("scaled_dot_product_attention", (_n(1), _n(1), _n(1))),
    ],
    "attention with a mask of rows": [
        Node("unflatten.int", (X, 2, (2, 3))), Node("transpose.int", (_n(0), 1, 2)),
        Node("slice.Tensor", (Y, 1, 0, 4)), Node("unsqueeze", (_n(2), 1)),
        Node("unsqueeze", (_n(3), 1)), Node("expand", (_n(4), (-1, 1, 4, 4))),
        Node("scaled_dot_product_attention", (_n(1), _n(1), _n(1), _n(5))),
    ],
    "convolution of lines": [Node("reshape", (W, (9, 4, 1))), Node("conv1d", (X, W))],
    "another type": [Node("to.dtype", (X, DType("float64"))), Node("abs", (_n(0),))],
}  # fmt: skip


@pytest.mark.parametrize("case", RULES)
def test_each_rule(case: str) -> None:
    """With operands of several ranks; rows in the middle of a batch are told apart."""
    nodes = RULES[case]
    output = _n(len(nodes) - 1)
    kernel = (5, 4, 3) if case == "convolution of lines" else (6, 6)
    if case == "convolution of lines":
        nodes, output = nodes[1:], _n(0)
    graph = Graph(
        (
            TensorSpec("x", "float32", (None, 4, 6)),
            TensorSpec("y", "float32", (None, 6)),
            TensorSpec("ids", "int64", (None, 3)),
        ),
        (
            WeightSpec("w", "float32", kernel),
            WeightSpec("v", "float32", (6,)),
            WeightSpec("t", "float32", (9, 6)),
        ),
        tuple(nodes),
        (Output(TensorSpec("z", "float32", (None,)), output),),
    )
    validate(graph)
    torch.manual_seed(1)
    weights = [[torch.randn(kernel), torch.randn(6), torch.randn(9, 6)] for _ in range(MEMBERS)]
    inputs = [
        [torch.randn(2, 4, 6), torch.randn(2, 6), torch.randint(0, 9, (2, 3))]
        for _ in range(MEMBERS)
    ]
    _check(graph, weights, inputs)


@pytest.mark.parametrize(
    "nodes",
    [
        [Node("sum", (X,)), Node("mul.Tensor", (X, _n(0)))],
        [Node("amax", (X,)), Node("mul.Tensor", (X, _n(0)))],
        [Node("cat", ((X, Y), -1))],
        [Node("cumsum", (X, 1)), Node("triu", (_n(0),))],
        # the rows are taken for channels
        [Node("max_pool2d", (X, (2, 2)))],
    ],
)
def test_what_has_no_rule_is_left_alone(nodes: list[Node]) -> None:
    """Over all dimensions, members among them, or not known at all."""
    specs = (TensorSpec("x", "float32", (None, 4, 6)), TensorSpec("y", "float32", (None, 6)))
    output = Output(TensorSpec("z", "float32", (None,)), _n(len(nodes) - 1))
    weight = (WeightSpec("w", "float32", (6, 6)),)
    assert stack_graph(Graph(specs, weight, tuple(nodes), (output,))) is None


def test_large_kernels_are_not_copied() -> None:
    """A look at the weights is enough."""
    side = int(MOST_COPIED_BYTES**0.5) // 6 + 1
    kernel = WeightSpec("w", "float32", (side, side, 3, 3))
    image = TensorSpec("x", "float32", (None, side, 8, 8))
    output = Output(TensorSpec("y", "float32", (None, side, 6, 6)), _n(0))
    graph = Graph((image,), (kernel,), (Node("conv2d", (X, W)),), (output,))
    assert not may_stack(graph)
    assert stack_graph(graph) is None


@given(st.lists(st.integers(0, 400), unique=True, max_size=12))
def test_progressions_hold_every_address_once(addresses: list[int]) -> None:
    """Ascending, at equal distances."""
    runs = progressions(addresses)
    assert sorted(k for run in runs for k in run) == list(range(len(addresses)))
    for run in runs:
        steps = {addresses[b] - addresses[a] for a, b in itertools.pairwise(run)}
        assert len(steps) <= 1
        assert all(step > 0 for step in steps)


@given(st.integers(1, 9).flatmap(lambda count: st.permutations(range(count))))
def test_slots_next_to_each_other_are_one_run(order: list[int]) -> None:
    """In whatever order the members have them."""
    addresses = [4096 * k for k in order]
    (run,) = progressions(addresses)
    assert [addresses[k] for k in run] == sorted(addresses)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_a_strided_view_copies_nothing(dtype: torch.dtype) -> None:
    """It shows what the tensors hold, also afterwards; unequal distances give none."""
    pool = torch.zeros(5, 12, dtype=dtype)
    parts = [pool[k, 2:8].view(2, 3) for k in range(5)]
    view = strided(parts[::2])
    assert view is not None
    parts[2].fill_(3)
    assert view.dtype == dtype
    assert view[1].tolist() == [[3, 3, 3], [3, 3, 3]]
    assert strided([parts[0], parts[1], parts[3]]) is None
    assert strided([parts[1], parts[0]]) is None
    assert strided([pool[:0], pool[:0]]) is not None


def _dag(members: list[Member]) -> FusedDag:
    built = build(members)
    return FusedDag(built.members, built.key, built.bytes, 0.0, built.strategies, Choice(["stack"]))


@pytest.mark.parametrize("rows", [[1, 1, 1, 1], [1, 3, 2, 1]])
def test_a_group_is_stacked_as_far_as_it_goes(rows: list[int]) -> None:
    """Two architectures and a lone function; different rows are filled up and cut again."""
    names = ["mlp", "bert", "mlp", "bert", "mlp", "bert", "lstm"]
    seeds = [0, 0, 1, 1, 2, 2, 0]
    slots = {
        name: _slots([list(exported(name, seed).weights.values()) for seed in range(3)])
        for name in ("mlp", "bert")
    }
    programs = {name: generate(exported(name).graph) for name in set(names)}
    members = [Member(programs[name], 4) for name in names]
    dag = _dag(members)
    order = sorted(range(len(names)), key=lambda k: members[k].architecture)
    calls, expected = [], []
    for k in order:
        name, seed = names[k], seeds[k]
        weights = slots[name][seed] if name in slots else list(exported(name).weights.values())
        probes = probe_inputs(example(name).inputs, rows[k % len(rows)], k)
        job = [probes[spec.name] for spec in programs[name].graph.inputs]
        calls.append(Call(weights, [job]))
        with torch.inference_mode():
            expected.append(generate(programs[name].graph).run(weights, job))
    for _ in range(3):
        for results, wanted in zip(dag.run(calls), expected, strict=True):
            torch.testing.assert_close(results[0], wanted, rtol=1e-4, atol=1e-5)


def test_rows_that_depend_on_each_other_are_not_filled_up() -> None:
    """Zeros would change a mean over the rows: such members run apart, with the right values."""
    spec = TensorSpec("x", "float32", (None, 4))
    nodes = (
        Node("linear", (X, W)), Node("mean.dim", (_n(0), (0,), True)),
        Node("sub.Tensor", (_n(0), _n(1))),
    )  # fmt: skip
    weight = WeightSpec("w", "float32", (4, 4))
    output = Output(spec._replace(name="y"), _n(2))
    graph = Graph((spec,), (weight,), nodes, (output,), batchable=False)
    program = generate(graph)
    stacks = make_stacks([program, program])
    assert stacks is not None
    weights = _slots([[torch.randn(4, 4)], [torch.randn(4, 4)]])
    inputs = [torch.randn(2, 4), torch.randn(3, 4)]
    works = [Work(program, w, [x], 4) for w, x in zip(weights, inputs, strict=True)]
    for found, w, x in zip(stacks(works), weights, inputs, strict=True):
        torch.testing.assert_close(found, program.run(w, [x]))
