"""Generated code: straight lines, freed early, and nothing in it that a graph spells."""

from dataclasses import replace

import pytest
import torch

from fusion.codegen import generate
from fusion.interpret import measure_activation_bytes
from fusion.ir import DTYPE_BYTES, Graph, Node, Output, Ref, TensorSpec, WeightSpec
from tests.unit.fusion.shared import example, exported, small_graph

X = Ref("input", 0)


def test_a_value_is_deleted_where_it_is_used_last():
    """Weights are not, and outputs are not."""
    spec = WeightSpec("w", "float32", (4,))
    graph = small_graph(
        Node("relu", (X,)),
        Node("chunk", (Ref("node", 0), 2, 1), (), 2),
        Node("add.Tensor", (Ref("node", 1, 1), Ref("weight", 0))),
        weights=(spec,),
    )
    expected = """\
def run(w, x):
    x0, = x
    n0 = op_relu(x0); del x0
    n1, n1_1, = op_chunk(n0, 2, 1); del n0, n1
    n2 = op_add_Tensor(n1_1, w[0]); del n1_1
    return [n2]
"""
    assert expected == generate(graph).source


def test_names_of_the_graph_do_not_reach_the_source():
    """A name may hold anything printable."""
    evil = "x'); import os #"
    spec = TensorSpec(evil, "float32", (None, 4))
    graph = Graph((spec,), (), (Node("relu", (X,)),), (Output(spec, Ref("node", 0)),))
    program = generate(Graph.decode(graph.encode()))
    assert "import" not in program.source
    assert program.run([], [torch.full((1, 1), 4.0)])[0].flatten().tolist() == [4.0]


def test_generated_code_names_operators_alone():
    """Not even by accident could it open a file: torch's own imports are its only builtin."""
    run = generate(exported("dict_output").graph).run
    assert all(name.startswith("op_") or name == "inf" for name in _global_names(run))
    assert set(run.__globals__["__builtins__"]) == {"__import__"}


def _global_names(run):
    names = run.__code__.co_names
    return [name for name in names if name not in ("device", *DTYPE_BYTES)]


def test_tensors_made_out_of_nothing_are_where_the_inputs_are():
    """The graph does not say where; `meta` stands for a device here."""
    graph = small_graph(Node("arange", (4,)), Node("add.Tensor", (X, Ref("node", 0))))
    result = generate(graph).run([], [torch.ones(2, 4, device="meta")])[0]
    assert (result.device.type, tuple(result.shape)) == ("meta", (2, 4))


def test_sizes_that_overflow_end_in_an_error():
    """A chain of products must not grow into an integer of a million digits."""
    squares = [Node("int.mul", (Ref("node", k), Ref("node", k))) for k in range(80)]
    rows = Node("sym_size.int", (X, 0))
    graph = small_graph(rows, *squares, Node("view", (X, (Ref("node", 80), -1))))
    with pytest.raises(OverflowError, match="64 bits"):
        generate(graph).run([], [torch.ones(2, 4)])


def test_one_program_serves_every_weight():
    """Weights are arguments."""
    first, second = exported("tiny_cnn"), exported("tiny_cnn", seed=1)
    program = generate(first.graph)
    for made, seed in ((first, 0), (second, 1)):
        module, inputs = example("tiny_cnn", seed)
        with torch.inference_mode():
            actual = program.run(list(made.weights.values()), list(inputs.values()))
            torch.testing.assert_close(actual, [module(inputs["x"])])


def test_a_program_knows_what_it_holds():
    """More code, more bytes."""
    small = generate(small_graph(Node("relu", (X,))))
    assert 500 < small.bytes < generate(exported("resnet18").graph).bytes < 100_000


def test_activation_bytes_count_what_is_alive_at_once():
    """Input 32 B and output are held; of two in between, one is freed before the other is made."""
    graph = small_graph(
        Node("cat", ((X, X), 1)),  # [2, 8]: 64 B
        Node("view", (Ref("node", 0), (-1, 4))),  # the same storage
        Node("sum.dim_IntList", (Ref("node", 1), (0,))),  # [4]: 16 B
    )
    measured = measure_activation_bytes(generate(graph), [], [torch.ones(2, 4)])
    assert measured == 32 + 64 + 16


def test_activation_bytes_leave_weights_out():
    """A view of a weight is a weight."""
    spec = WeightSpec("w", "float32", (4, 4))
    graph = small_graph(
        Node("t", (Ref("weight", 0),)), Node("mm", (X, Ref("node", 0))), weights=(spec,)
    )
    program = generate(graph)
    assert measure_activation_bytes(program, [torch.ones(4, 4)], [torch.ones(2, 4)]) == 64


def test_activation_bytes_grow_with_rows():
    """They are measured per architecture and rows."""
    made = exported("resnet18")
    program, weights = generate(made.graph), list(made.weights.values())
    one, four = (
        measure_activation_bytes(program, weights, [torch.randn(rows, 3, 32, 32)])
        for rows in (1, 4)
    )
    assert 4 * one == four


def test_equal_graphs_give_equal_source():
    """Whatever weights are called."""
    graph = exported("mlp").graph
    renamed = tuple(w._replace(name=f"other{i}") for i, w in enumerate(graph.weights))
    assert generate(graph).source == generate(replace(graph, weights=renamed)).source
