"""Graphs for the CPU: convolutions take along what follows them, values stay the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion import mkldnn
from fusion.codegen import generate
from fusion.errors import UnsupportedOperator
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.specialise import for_cpu, specialised
from fusion.tiers import ONEDNN
from fusion.validate import validate
from tests.unit.fusion.shared import example, exported
from tests.zoo import ZOO

pytestmark = pytest.mark.skipif(not mkldnn.is_available(), reason="torch without oneDNN")

X = Ref("input", 0)
W = Ref("weight", 0)


def _n(index: int) -> Ref:
    return Ref("node", index)


def _image_graph(*nodes: Node, kernel=(4, 4, 3, 3), dtype="float32") -> Graph:
    """Of one input [rows, 4, 6, 6]; the last node is the output."""
    spec = TensorSpec("x", dtype, (None, 4, 6, 6))
    output = Output(TensorSpec("y", dtype, (None,)), _n(len(nodes) - 1))
    return Graph((spec,), (WeightSpec("w", dtype, kernel),), nodes, (output,))


def _conv(x: Ref = X, **changes) -> Node:
    arguments = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1} | changes
    return Node("conv2d", (x, W, None, *arguments.values()))


def _operators(graph: Graph) -> list[str]:
    return [node.operator for node in graph.nodes]


def _outputs(graph: Graph, rows: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(rows)
    weights = [torch.randn(spec.shape) for spec in graph.weights]
    return generate(graph).run(weights, [torch.randn(rows, 4, 6, 6)])


def _check(graph: Graph, operators: list[str]) -> None:
    after = for_cpu(graph)
    assert _operators(after) == operators
    assert (after.weights, after.inputs) == (graph.weights, graph.inputs)
    torch.testing.assert_close(_outputs(after), _outputs(graph), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "activation",
    [
        Node("relu", (_n(0),)),
        Node("relu6", (_n(0),)),
        Node("hardtanh", (_n(0),)),
        Node("hardtanh", (_n(0), 0, 6)),
        Node("leaky_relu", (_n(0), 0.2)),
        Node("leaky_relu", (_n(0),)),
        Node("sigmoid", (_n(0),)),
        Node("tanh", (_n(0),)),
        Node("silu", (_n(0),)),
        Node("gelu", (_n(0),)),
        Node("hardswish", (_n(0),)),
        Node("hardsigmoid", (_n(0),)),
    ],
    ids=lambda node: node.operator,
)
def test_an_activation_runs_with_its_convolution(activation):
    """One node where there were two."""
    _check(_image_graph(_conv(), activation), ["mkldnn.conv2d"])


def test_a_residual_block_runs_in_as_many_nodes_as_it_has_convolutions():
    """The second of two convolutions adds what the first has written."""
    graph = _image_graph(
        _conv(), Node("relu", (_n(0),)), _conv(_n(1)), _conv(),
        Node("add.Tensor", (_n(2), _n(3))), Node("relu", (_n(4),)),
    )  # fmt: skip
    _check(graph, ["mkldnn.conv2d", "conv2d", "mkldnn.conv2d_add"])
    assert for_cpu(graph).nodes[-1].args[-1] == "relu"


def test_an_addition_without_activation_is_taken_along():
    """Of an input, too."""
    _check(_image_graph(_conv(), Node("add.Tensor", (X, _n(0)))), ["mkldnn.conv2d_add"])


@pytest.mark.parametrize(
    "nodes",
    [
        (_conv(), Node("relu", (_n(0),)), Node("mul.Tensor", (_n(0), _n(1)))),  # used twice
        (_conv(), Node("gelu", (_n(0),), (("approximate", "tanh"),))),
        (_conv(), Node("add.Tensor", (_n(0), _n(0)))),
        (_conv(), Node("add.Tensor", (_n(0), 1.0))),
        (_conv(), Node("mean.dim", (X, (2, 3), True)), Node("add.Tensor", (_n(0), _n(1)))),
        (_conv(), Node("add.Tensor", (_n(0), X), (("alpha", 2),))),
        (Node("relu", (X,)), Node("add.Tensor", (_n(0), X))),
    ],
    ids=["used twice", "tanh", "itself", "number", "other shape", "alpha", "no convolution"],
)
def test_what_it_cannot_take_along_stays(nodes):
    """Values, not patterns, decide."""
    graph = _image_graph(*nodes)
    assert _operators(for_cpu(graph)) == _operators(graph)


@pytest.mark.parametrize(
    "graph",
    [
        _image_graph(_conv(groups=0), Node("relu", (_n(0),))),
        _image_graph(_conv(groups=3), Node("relu", (_n(0),))),
        _image_graph(_conv(groups=-1), Node("relu", (_n(0),))),
        _image_graph(_conv(stride=(0, 0)), Node("relu", (_n(0),))),
        _image_graph(_conv(padding=(-1, -1)), Node("relu", (_n(0),))),
        _image_graph(_conv(dilation=(0, 1)), Node("relu", (_n(0),))),
        _image_graph(_conv(), Node("relu", (_n(0),)), kernel=(4, 5, 3, 3)),
        _image_graph(_conv(), Node("relu", (_n(0),)), kernel=(4, 4, 9, 9)),
        _image_graph(_conv(), Node("relu", (_n(0),)), kernel=(0, 4, 3, 3)),
        _image_graph(_conv(), Node("relu", (_n(0),)), kernel=(4, 4, 3)),
        _image_graph(_conv(), Node("relu", (_n(0),)), dtype="float64"),
    ],
    ids=lambda graph: str(graph.nodes[0].args[3:] + graph.weights[0].shape),
)
def test_arguments_that_conv2d_would_refuse_do_not_reach_onednn(graph):
    """It does not look: groups of 0 would end the process."""
    assert all(operator != "mkldnn.conv2d" for operator in _operators(for_cpu(graph)))


def test_a_graph_cannot_bring_operators_of_a_device_along():
    """They are made where they run, from checked graphs."""
    graph = for_cpu(_image_graph(_conv(), Node("relu", (_n(0),))))
    with pytest.raises(UnsupportedOperator, match="mkldnn"):
        validate(graph)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("rows", [1, 3])
def test_every_model_of_the_zoo_stays_what_it_is(name, rows):
    """Specialised and generated code give the same within float32's rounding."""
    made = exported(name)
    program = specialised(made.graph, "cpu")
    has_tier = ONEDNN in program.tiers.names
    assert has_tier == (for_cpu(made.graph) is not made.graph)
    if has_tier:
        rows = made.graph.fixed_rows or rows
        inputs = [x[:1].repeat(rows, *[1] * (x.dim() - 1)) for x in example(name).inputs.values()]
        weights = list(made.weights.values())
        expected = program.run(weights, inputs)
        actual = generate(for_cpu(made.graph)).run(weights, inputs)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
        assert "onednn" in program.tiers.names


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["conv", "relu", "hardtanh", "silu", "add", "neg"]), st.integers(0, 5)
    ),
    min_size=1,
    max_size=10,
)


@given(_STEPS)
def test_random_graphs_stay_what_they_are(steps):
    """Convolutions, activations and additions in any order, over any earlier values."""
    values = [X]
    nodes: list[Node] = []
    for what, back in steps:
        x, y = values[-1 - back % len(values)], values[-1]
        node = {
            "conv": lambda y=y: _conv(y),
            "add": lambda x=x, y=y: Node("add.Tensor", (x, y)),
        }.get(what, lambda what=what, x=x: Node(what, (x,)))()
        nodes.append(node)
        values.append(_n(len(nodes) - 1))
    graph = _image_graph(*nodes)
    after, before = _outputs(for_cpu(graph))[0], _outputs(graph)[0]
    scale = max(1.0, float(before.abs().max()))
    torch.testing.assert_close(after / scale, before / scale, rtol=1e-4, atol=1e-4)
