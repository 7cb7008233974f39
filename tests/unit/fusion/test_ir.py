"""graph.json: what is written is read back; hostile bytes end in an error that names a field."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.decode import MAX_GRAPH_BYTES
from fusion.errors import FusionError, GraphError, UnsupportedOperator
from fusion.ir import DType, Graph, Node, Output, Ref, TensorSpec, WeightSpec
from tests.unit.fusion.shared import graphs, small_graph

X = Ref("input", 0)


@given(graphs())
def test_a_graph_is_read_back_as_it_was_written(graph):
    """decode inverts encode, and encode is canonical."""
    assert graph == Graph.decode(graph.encode())
    assert graph.encode() == Graph.decode(graph.encode()).encode()


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_mutated_bytes_are_read_or_refused_with_an_error_of_ours(graph, random):
    """No byte string makes decode raise anything but a FusionError."""
    data = bytearray(graph.encode())
    for _ in range(random.randint(1, 8)):
        data[random.randrange(len(data))] = random.randrange(256)
    _read_or_refuse(bytes(data))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_an_error_of_ours(data):
    """Nor does one that never was a graph."""
    _read_or_refuse(data)


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_mutated_json_is_read_or_refused_with_an_error_of_ours(graph, random):
    """Values of the wrong type at any place are refused, or leave a valid graph."""
    plain = json.loads(graph.encode())
    for _ in range(random.randint(1, 3)):
        plain = _mutate(plain, random)
    _read_or_refuse(json.dumps(plain).encode())


JUNK = (None, True, -1, 2**70, 1.5, 1e308, "x", "conv2d", [], {}, {"node": 0}, {"weight": [0, 9]})


def _mutate(value: object, random: random.Random) -> object:
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        return [_mutate(v, random) if i == place else v for i, v in enumerate(value)]
    if isinstance(value, dict) and value and random.random() < 0.85:
        place = random.choice(sorted(value))
        return value | {place: _mutate(value[place], random)}
    return random.choice(JUNK)


def _read_or_refuse(data: bytes) -> None:
    try:
        graph = Graph.decode(data)
    except FusionError:
        return
    assert graph == Graph.decode(graph.encode())


def test_names_do_not_change_the_architecture_but_shapes_and_flags_do():
    """Functions that differ in names alone share code."""
    spec = WeightSpec("a", "float32", (4, 4))
    graph = small_graph(Node("linear", (X, Ref("weight", 0))), weights=(spec,))
    renamed = replace(graph, weights=(spec._replace(name="b"),))
    wider = replace(graph, weights=(spec._replace(shape=(8, 4)),))
    assert graph.architecture == renamed.architecture
    assert graph.architecture != wider.architecture
    assert graph.architecture != replace(graph, batchable=False).architecture


def _graph_of(**changes: object) -> bytes:
    plain = json.loads(small_graph(Node("relu", (X,))).encode())
    return json.dumps(plain | changes).encode()


HOSTILE = {
    "unknown operator": (_graph_of(nodes=[["os.system", ["ls"]]]), "nodes[0].operator"),
    "an operator that writes": (_graph_of(nodes=[["relu_", [{"input": 0}]]]), "nodes[0].operator"),
    "forward reference": (_graph_of(nodes=[["relu", [{"node": 0}]]]), "nodes[0].relu.self"),
    "negative index": (_graph_of(nodes=[["relu", [{"input": -1}]]]), "nodes[0].relu.self"),
    "absent weight": (
        _graph_of(nodes=[["relu", [{"weight": 0}]]]),
        "nodes[0].relu.self",
    ),
    "absent result": (_graph_of(nodes=[["relu", [{"input": [0, 1]}]]]), "nodes[0].relu"),
    "a number for a tensor": (_graph_of(nodes=[["relu", [1]]]), "nodes[0].relu.self"),
    "a tensor for a number": (
        _graph_of(nodes=[["chunk", [{"input": 0}, {"input": 0}], {}, 2]]),
        "nodes[0].chunk.chunks",
    ),
    "too many arguments": (_graph_of(nodes=[["relu", [{"input": 0}, 1]]]), "nodes[0].args"),
    "too few arguments": (_graph_of(nodes=[["relu", []]]), "nodes[0].relu.self"),
    "unknown keyword": (_graph_of(nodes=[["relu", [{"input": 0}], {"out": 1}]]), "nodes[0].kwargs"),
    "argument given twice": (
        _graph_of(nodes=[["relu", [{"input": 0}], {"self": {"input": 0}}]]),
        "nodes[0].kwargs",
    ),
    "huge integer": (
        _graph_of(nodes=[["unsqueeze", [{"input": 0}, 2**64]]]),
        "nodes[0].unsqueeze.dim",
    ),
    "integer of thousands of digits": (b'{"format":' + b"9" * 5000 + b"}", ""),
    "float that is not finite": (
        _graph_of().replace(b'["relu", [{"input": 0}]]', b'["relu", [1e999]]'),
        "nodes[0].args[0]",
    ),
    "NaN": (_graph_of().replace(b'{"input": 0}', b"NaN"), ""),
    "a string torch would not know": (
        _graph_of(nodes=[["gelu", [{"input": 0}], {"approximate": "x"}]]),
        "nodes[0].gelu.approximate",
    ),
    "a huge tensor out of nothing": (
        _graph_of(nodes=[["zeros", [[100_000, 100_000]]]]),
        "nodes[0]",
    ),
    "a huge range": (_graph_of(nodes=[["arange", [1e18]]]), "nodes[0]"),
    "training that writes to weights": (
        _graph_of(
            nodes=[["batch_norm", [{"input": 0}, None, None, None, None, True, 0.1, 1e-5, False]]]
        ),
        "nodes[0].batch_norm.training",
    ),
    "random results": (
        _graph_of(nodes=[["dropout", [{"input": 0}, 0.5, True]]]),
        "nodes[0].dropout",
    ),
    "absurd dimension": (_graph_of(inputs=[["x", "float32", [None, 2**50]]]), "inputs[0].shape"),
    "absurd size": (_graph_of(inputs=[["x", "float32", [None, 2**30, 2**30]]]), "inputs[0].shape"),
    "nine dimensions": (
        _graph_of(inputs=[["x", "float32", [None] + [1] * 9]]),
        "inputs[0].shape",
    ),
    "no rows": (_graph_of(inputs=[["x", "float32", [2, 4]]]), "inputs[0].shape"),
    "a weight with rows": (_graph_of(weights=[["w", "float32", [None]]]), "weights[0].shape"),
    "unknown dtype": (_graph_of(inputs=[["x", "complex64", [None]]]), "inputs[0].dtype"),
    "duplicate names": (_graph_of(inputs=[["x", "float32", [None]]] * 2), "inputs[1].name"),
    "unprintable name": (_graph_of(inputs=[["\ud800", "float32", [None]]]), "inputs[0].name"),
    "no inputs": (_graph_of(inputs=[], nodes=[], outputs=[]), "inputs"),
    "no rows at all": (_graph_of(fixed_rows=0), "fixed_rows"),
    "another format": (_graph_of(format=2), "format"),
    "not a list": (_graph_of(nodes={"0": []}), "nodes"),
    "not an object": (b"[]", ""),
    "not JSON": (b"\x80\x04K\x01.", ""),
    "deep nesting": (b"[" * 1_000_000, ""),
    "nested arguments": (_graph_of(nodes=[["relu", [[[[[[]]]]]]]]), "nodes[0].args[0]"),
    "too many bytes": (b" " * (MAX_GRAPH_BYTES + 1), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused_by_field(name):
    """The error names the field, so that a user of a bad artifact can find it."""
    data, field = HOSTILE[name]
    with pytest.raises(GraphError) as caught:
        Graph.decode(data)
    assert caught.value.field.startswith(field)


def test_an_unknown_operator_has_an_error_of_its_own():
    """Deploy tells it from a broken file."""
    with pytest.raises(UnsupportedOperator) as caught:
        Graph.decode(_graph_of(nodes=[["nonzero", [{"input": 0}]]]))
    assert caught.value.operator == "nonzero"


def test_a_size_may_depend_on_rows_but_not_on_a_tensor():
    """Integers of the graph are values like tensors, and are told apart from them."""
    rows = Node("sym_size.int", (X, 0))
    doubled = Node("int.mul", (Ref("node", 0), 2))
    good = small_graph(rows, doubled, Node("view", (X, (Ref("node", 1), -1))))
    assert good == Graph.decode(good.encode())
    bad = small_graph(rows, Node("view", (X, (X, -1))))
    with pytest.raises(GraphError, match="must be SymInt, got a reference to Tensor"):
        Graph.decode(bad.encode())
    output = Output(TensorSpec("y", "int64", (None,)), Ref("node", 0))
    with pytest.raises(GraphError, match="must refer to a tensor"):
        Graph.decode(replace(good, outputs=(output,)).encode())


def test_infinity_is_written_as_a_mark():
    """JSON has no infinity, and attention masks need it."""
    graph = small_graph(Node("masked_fill.Scalar", (X, X, float("-inf"))))
    assert b'{"float":"-inf"}' in graph.encode()
    assert graph == Graph.decode(graph.encode())


def test_specs_know_their_bytes():
    """Admission and slots count with them."""
    assert TensorSpec("x", "float32", (None, 3, 4)).row_bytes == 4 * 12
    assert WeightSpec("w", "bfloat16", (3, 4)).bytes == 2 * 12
    assert DType("float32") == DType("float32")
