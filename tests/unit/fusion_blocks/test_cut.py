"""Graphs cut into pieces compute the same, and no view of a weight outlives its step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fusion.blocks import cut as cutting
from fusion.blocks.cut import Cut, cut
from fusion.blocks.steps import VIEWS, returned_weights, sink_views, steps_of
from fusion.codegen import generate
from fusion.ir import Arg, Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.operators import names
from fusion.weights import WeightsIndex, write_weights

X, W = Ref("input", 0), Ref("weight", 0)


def graph_of(nodes: Sequence[Node], weights: Sequence[Tensor], width: int = 8) -> Graph:
    """A graph of one input; its output is the last node."""
    x = TensorSpec("x", "float32", (None, width))
    specs = [
        WeightSpec(f"w{k}", str(w.dtype).removeprefix("torch."), tuple(w.shape))
        for k, w in enumerate(weights)
    ]
    out = Output(TensorSpec("y", "float32", (None, 1)), Ref("node", len(nodes) - 1))
    return Graph((x,), tuple(specs), tuple(nodes), (out,))


def stored(tmp_path: Path, weights: Sequence[Tensor]) -> tuple[Path, WeightsIndex]:
    """A weights file of them."""
    path = tmp_path / "weights.safetensors"
    return path, write_weights(path, {f"w{k}": w for k, w in enumerate(weights)})


def read(made: Cut, path: Path) -> list[Tensor]:
    """The pieces, from the file."""
    data = path.read_bytes()
    return [
        torch.frombuffer(bytearray(data[p.begin : p.end]), dtype=getattr(torch, spec.dtype)).view(
            spec.shape
        )
        for p, spec in zip(made.pieces, made.graph.weights, strict=True)
    ]


def assert_same(
    tmp_path: Path, graph: Graph, weights: Sequence[Tensor], x: Tensor, pieces: int
) -> Cut:
    """Whole and cut, the outputs agree."""
    path, index = stored(tmp_path, weights)
    made = cut(graph, index, 256)
    made = made._replace(graph=sink_views(made.graph))
    used = {ref for node in made.graph.nodes for ref in node.refs() if ref.kind == "weight"}
    assert len(used) == pieces
    with torch.inference_mode():
        [expected] = generate(graph).run(list(weights), [x])
        [found] = generate(made.graph).run(read(made, path), [x])
    torch.testing.assert_close(found, expected)
    return made


LAYERS: list[tuple[list[Node], list[tuple[int, ...]], int]] = [
    ([Node("linear", (X, W, Ref("weight", 1)))], [(40, 8), (40,)], 10),
    ([Node("linear", (X, W))], [(40, 8)], 5),
    (
        [Node("t", (W,)), Node("addmm", (Ref("weight", 1), X, Ref("node", 0)))],
        [(40, 8), (40,)],
        10,
    ),
    ([Node("transpose.int", (W, 0, 1)), Node("matmul", (X, Ref("node", 0)))], [(40, 8)], 5),
    # rows of this one are its inputs: it stays whole
    ([Node("mm", (X, W))], [(8, 40)], 1),
]


@pytest.mark.parametrize(("nodes", "shapes", "pieces"), LAYERS)
def test_wide_products_are_split_by_output_rows(
    tmp_path: Path, nodes: list[Node], shapes: list[tuple[int, ...]], pieces: int
) -> None:
    """Linear layers, written out or not; their biases with them."""
    weights = [torch.randn(shape) for shape in shapes]
    assert_same(tmp_path, graph_of(nodes, weights), weights, torch.randn(3, 8), pieces)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_are_split_unless_their_inputs_are(tmp_path: Path, groups: int) -> None:
    """Kernels that are stored channels last too; groups are left alone."""
    kernel, bias = torch.randn(16, 3, 3, 4 // groups), torch.randn(16)
    args: tuple[Arg, ...] = (Ref("node", 0), Ref("node", 1), Ref("weight", 1), (1, 1), (1, 1))
    nodes = [
        Node("view", (X, (-1, 4, 4, 4))),
        Node("permute", (W, (0, 3, 1, 2))),
        Node("conv2d", (*args, (1, 1), groups)),
    ]
    graph = graph_of(nodes, [kernel, bias], 64)
    pieces = {1: 16, 2: 2}  # two rows of the kernel each, and of the bias
    assert_same(tmp_path, graph, [kernel, bias], torch.randn(2, 64), pieces[groups])


def test_a_bias_that_is_broadcast_keeps_its_layer_whole(tmp_path: Path) -> None:
    """It has no row for each output."""
    weights = [torch.randn(40, 8), torch.randn(1)]
    nodes = [Node("t", (W,)), Node("addmm", (Ref("weight", 1), X, Ref("node", 0)))]
    assert_same(tmp_path, graph_of(nodes, weights), weights, torch.randn(3, 8), 2)


def test_views_of_weights_are_made_where_they_are_read(tmp_path: Path) -> None:
    """One for each reader, though the graph makes them at its start."""
    weights = [torch.randn(8, 8)]
    nodes = [
        Node("t", (W,)),
        Node("mm", (X, Ref("node", 0))),
        Node("relu", (Ref("node", 1),)),
        Node("mm", (Ref("node", 2), Ref("node", 0))),
    ]
    made = assert_same(tmp_path, graph_of(nodes, weights), weights, torch.randn(3, 8), 1)
    assert [node.operator for node in made.graph.nodes] == ["t", "mm", "relu", "t", "mm"]
    steps = steps_of(made.graph, made.pieces)
    assert [(step.begin, step.end, step.weights) for step in steps] == [
        (0, 2, (0,)), (2, 3, ()), (3, 5, (0,)),
    ]  # fmt: skip


def test_a_table_that_is_tied_to_a_layer_is_gathered_in_one_place_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are read for the embedding, and all of it for the layer."""
    monkeypatch.setattr(cutting, "GATHER_FROM_BYTES", 256)
    table = torch.randn(40, 8)
    nodes = [
        Node("to.dtype", (X,), (("dtype", cutting_int64()),)),
        Node("embedding", (W, Ref("node", 0))),
        Node("linear", (Ref("node", 1), W)),
    ]
    graph = graph_of(nodes, [table])
    _, index = stored(tmp_path, [table])
    made = cut(graph, index, 10**6)
    assert [piece.is_gathered for piece in made.pieces] == [True, False]
    assert made.pieces[0][:2] == made.pieces[1][:2]
    assert [step.weights for step in steps_of(made.graph, made.pieces)] == [(), (), (1,)]


def cutting_int64() -> Arg:
    """The dtype of indices, as an argument."""
    from fusion.ir import DType

    return DType("int64")


def test_weights_that_are_returned_outlast_the_run(tmp_path: Path) -> None:
    """Views of them too; what was computed of them not."""
    graph = graph_of([Node("relu", (X,)), Node("t", (W,))], [torch.randn(4, 4)])
    assert returned_weights(sink_views(graph)) == {0}
    computed = graph_of([Node("relu", (W,))], [torch.randn(4, 4)])
    assert returned_weights(computed) == frozenset()


def test_every_operator_that_torch_says_returns_its_argument_is_known() -> None:
    """By the aliases in torch's schemas."""
    aliasing = set()
    for name in names():
        base, _, overload = name.partition(".")
        packet = getattr(torch.ops.aten, base, None) if base != "int" else None
        if packet is not None:
            schema = getattr(packet, overload or "default")._schema
            if any(result.alias_info is not None for result in schema.returns):
                aliasing.add(name)
    assert aliasing <= VIEWS
    assert {*names()} >= VIEWS
