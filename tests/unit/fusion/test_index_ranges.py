"""Which inputs are indices is found from the graph; what it computes is left alone."""

from __future__ import annotations

import pytest

from fusion.index_ranges import IndexRange, index_ranges
from fusion.ir import Arg, DType, Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.validate import validate

X, W = Ref("input", 0), Ref("weight", 0)


def last(at: int) -> Ref:
    """The result of a node."""
    return Ref("node", at)


def ranges(*nodes: Node, dtype: str = "int64") -> tuple[IndexRange, ...]:
    """Of a graph with an input x [rows, 3] and a table w [8, 4]."""
    spec = TensorSpec("x", dtype, (None, 3))
    output = Output(TensorSpec("y", "float32", (None,)), last(len(nodes) - 1))
    table = WeightSpec("w", "float32", (8, 4))
    return index_ranges(validate(Graph((spec,), (table,), nodes, (output,))))


def embedding(indices: Arg) -> Node:
    """Rows of the table."""
    return Node("embedding", (W, indices))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([embedding(X)], ("x", 0, 8)),
        ([Node("index_select", (W, 1, X))], ("x", 0, 4)),
        ([Node("index_select", (W, -1, X))], ("x", 0, 4)),
        ([Node("gather", (W, 0, X))], ("x", 0, 8)),
        ([Node("index.Tensor", (W, (X,)))], ("x", -8, 8)),
        ([Node("index.Tensor", (W, (None, X)))], ("x", -4, 4)),
        ([Node("one_hot", (X, 5))], ("x", 0, 5)),
        ([Node("one_hot", (X, 5)), embedding(X)], ("x", 0, 5)),
        ([embedding(X), Node("index.Tensor", (W, (None, X)))], ("x", 0, 4)),
    ],
)
def test_an_input_that_is_an_index_has_the_range_of_its_table(
    nodes: list[Node], expected: tuple[str, int, int]
) -> None:
    """The narrowest of all tables, negative where the operator counts from the end."""
    assert (IndexRange(*expected),) == ranges(*nodes)


def test_an_input_is_followed_through_operators_that_hand_its_values_on() -> None:
    """Views, copies, parts and casts to integers."""
    nodes = (
        Node("to.dtype", (X, DType("int64"))),
        Node("unsqueeze", (last(0), 0)),
        Node("chunk", (last(1), 2), (), 2),
        embedding(Ref("node", 2, 1)),
    )
    assert (IndexRange("x", 0, 8),) == ranges(*nodes)


def test_what_is_computed_or_not_an_integer_has_no_range() -> None:
    """A sum of the input may be an index though the input is not."""
    assert ranges(Node("add.Scalar", (X, 1)), embedding(last(0))) == ()
    assert ranges(Node("to.dtype", (X, DType("int64"))), embedding(last(0)), dtype="float32") == ()
    assert ranges(Node("clone", (W,)), Node("index_select", (last(0), 0, X))) == ()
