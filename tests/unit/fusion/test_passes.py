"""Each pass: the graph before, after, and equal results."""

import pytest
import torch

from fusion.codegen import generate
from fusion.ir import DType, Graph, Node, Ref, WeightSpec
from fusion.passes import (
    fold_constants,
    fold_conv_batchnorm,
    optimise,
    remove_aliases,
    remove_dead_code,
)
from fusion.passes.channels_last import channels_last
from fusion.passes.constants import SMALL_BYTES
from tests.unit.fusion.shared import example, exported, small_graph

X = Ref("input", 0)


def _node(index: int, output: int = 0) -> Ref:
    return Ref("node", index, output)


def _weight(index: int) -> Ref:
    return Ref("weight", index)


def _operators(graph: Graph) -> list[str]:
    return [node.operator for node in graph.nodes]


def _run(graph, weights, x):
    return generate(graph).run([weights[spec.name] for spec in graph.weights], [x])


def test_dead_code_and_unused_weights_are_dropped():
    """Weights come out in order of first use."""
    specs = tuple(WeightSpec(name, "float32", (4,)) for name in ("unused", "late", "early"))
    before = small_graph(
        Node("neg", (_weight(0),)),
        Node("add.Tensor", (X, _weight(2))),
        Node("relu", (X,)),
        Node("mul.Tensor", (_node(1), _weight(1))),
        weights=specs,
    )
    weights = {spec.name: torch.randn(4) for spec in specs}
    after, kept = remove_dead_code(before, weights)
    assert _operators(after) == ["add.Tensor", "mul.Tensor"]
    assert ["early", "late"] == list(kept) == [spec.name for spec in after.weights]
    x = torch.randn(2, 4)
    assert torch.equal(_run(before, weights, x)[0], _run(after, kept, x)[0])


def test_dropout_and_other_aliases_are_dropped():
    """Chains of them too."""
    before = small_graph(
        Node("relu", (X,)),
        Node("dropout", (_node(0), 0.5, False)),
        Node("detach", (_node(1),)),
        Node("neg", (_node(2),)),
        Node("alias", (_node(3),)),
    )
    after, _ = remove_aliases(before, {})
    assert _operators(after) == ["relu", "neg"]
    x = torch.randn(2, 4)
    assert torch.equal(_run(before, {}, x)[0], _run(after, {}, x)[0])


def _conv_norm(use_twice: bool = False, bias: bool = False) -> tuple[Graph, dict]:
    shapes = {"w": (4, 2, 3, 3), "b": (4,), "g": (4,), "beta": (4,), "mean": (4,), "var": (4,)}
    weights = {name: torch.rand(shape) + 0.5 for name, shape in shapes.items()}
    conv_args = (X, _weight(0), _weight(1) if bias else None, (1, 1), (1, 1), (1, 1), 2)
    norm_args = (_node(0), *map(_weight, (2, 3, 4, 5)), False, 0.1, 1e-5, False)
    nodes = [Node("conv2d", conv_args), Node("batch_norm", norm_args)]
    if use_twice:
        nodes.append(Node("add.Tensor", (_node(0), _node(1))))
    specs = tuple(WeightSpec(name, "float32", shape) for name, shape in shapes.items())
    return remove_dead_code(small_graph(*nodes, weights=specs), weights)


@pytest.mark.parametrize("bias", [False, True])
def test_batchnorm_is_folded_into_its_convolution(bias):
    """With or without a bias, in groups."""
    before, weights = _conv_norm(bias=bias)
    after, folded = fold_conv_batchnorm(before, weights)
    assert _operators(before) == ["conv2d", "batch_norm"]
    assert _operators(after) == ["conv2d"]
    assert 2 == len(after.weights) == len(folded)
    x = torch.randn(3, 4, 6, 6)
    torch.testing.assert_close(_run(after, folded, x), _run(before, weights, x))


def test_a_convolution_used_elsewhere_is_left_alone():
    """Folding would change the other use."""
    before, weights = _conv_norm(use_twice=True)
    after, _ = fold_conv_batchnorm(before, weights)
    assert before == after


def test_the_weights_given_to_a_pass_stay_as_they_are():
    """Passes are pure."""
    before, weights = _conv_norm()
    copies = {name: w.clone() for name, w in weights.items()}
    fold_conv_batchnorm(before, weights)
    assert list(copies) == list(weights)
    assert all(torch.equal(copies[name], weights[name]) for name in copies)


def test_nodes_of_weights_alone_are_computed_once():
    """Factories, casts and sizes of weights included; several results keep their places."""
    before = small_graph(
        Node("arange", (4,), (("dtype", DType("float32")),)),
        Node("mul.Tensor", (_node(0), _weight(0))),
        Node("chunk", (_node(1), 2), (), 2),
        Node("cat", ((_node(2, 1), _node(2, 0)), 0)),
        Node("sym_size.int", (_weight(0), 0)),
        Node("add.Tensor", (X, _node(3))),
        Node("mul.Tensor", (_node(5), _node(4))),
        weights=(WeightSpec("w", "float32", (4,)),),
    )
    weights = {"w": torch.randn(4)}
    after, folded = fold_constants(before, weights)
    assert [Node("add.Tensor", (X, _weight(0))), Node("mul.Tensor", (_node(0), 4))] == [
        *after.nodes
    ]
    assert list(folded) == ["folded"]
    x = torch.randn(2, 4)
    assert torch.equal(_run(before, weights, x)[0], _run(after, folded, x)[0])


def test_a_constant_that_would_take_more_room_is_not_stored():
    """An expanded weight is cheaper to expand again than to keep and load."""
    wide = SMALL_BYTES // 4
    before = small_graph(
        Node("expand", (_weight(0), (wide, 4))),
        Node("add.Tensor", (X, _node(0))),
        weights=(WeightSpec("w", "float32", (4,)),),
    )
    after, _ = fold_constants(before, {"w": torch.randn(4)})
    assert before == after


def test_optimise_reports_nodes_before_and_after_each_pass():
    """Deploy shows them."""
    made = exported("resnet18")
    assert made.nodes_before == made.passes[0].nodes_before
    assert len(made.graph.nodes) == made.passes[-1].nodes_after
    assert "batch_norm" not in _operators(made.graph)
    again, _, reports = optimise(made.graph, made.weights)
    # nothing is left to do, but views of kernels are not to be folded into copies of them
    assert [r.nodes_before for r in reports] == [len(made.graph.nodes)] * len(reports)
    assert _operators(again).count("conv2d") == _operators(made.graph).count("conv2d")


def test_constants_of_a_model_are_folded():
    """The causal mask of this one is made of a buffer alone."""
    assert "le.Tensor" not in _operators(exported("dict_output").graph)
    assert example("dict_output").module.order.dtype == torch.int64


def test_kernels_are_stored_channels_last():
    """A permuted view goes to conv2d; kernels of one pixel or one channel have one layout only."""
    shapes = {"wide": (4, 2, 3, 3), "pixel": (4, 4, 1, 1), "each": (4, 1, 3, 3)}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    specs = tuple(WeightSpec(name, "float32", shape) for name, shape in shapes.items())
    before = small_graph(
        Node("conv2d", (X, _weight(0), None, (1, 1), (1, 1))),
        Node("conv2d", (_node(0), _weight(1))),
        Node("conv2d", (_node(1), _weight(2), None, (1, 1), (1, 1), (1, 1), 4)),
        Node("view", (_node(2), (-1, 4 * 25))),
        weights=specs,
    )
    after, stored = channels_last(before, weights)
    assert _operators(after) == ["permute", "conv2d", "conv2d", "conv2d", "reshape"]
    assert [spec.shape for spec in after.weights] == [(4, 3, 3, 2), (4, 4, 1, 1), (4, 1, 3, 3)]
    assert stored["wide"].is_contiguous()
    x = torch.randn(2, 2, 5, 5)
    expected = _run(before, weights, x)[0]
    torch.testing.assert_close(_run(after, stored, x)[0], expected, rtol=1e-4, atol=1e-5)
    assert channels_last(after, stored) == (after, stored)


def test_kernels_that_something_else_reads_stay_as_they_are():
    """Another reader would see other values at their places."""
    weights = {"w": torch.randn(4, 4, 3, 3)}
    before = small_graph(
        Node("conv2d", (X, _weight(0))),
        Node("mean", (_weight(0),)),
        Node("add.Tensor", (_node(0), _node(1))),
        weights=(WeightSpec("w", "float32", (4, 4, 3, 3)),),
    )
    assert channels_last(before, weights)[0] is before
