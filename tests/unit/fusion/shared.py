"""Exports of the zoo, made once per test run, and a strategy for valid graphs."""

from functools import cache

from hypothesis import strategies as st

from fusion.export import Exported, export
from fusion.ir import DType, Graph, Node, Output, Ref, TensorSpec, WeightSpec
from tests.zoo import MAX_ROWS, ZOO, Example


@cache
def example(name: str, seed: int = 0) -> Example:
    """A zoo model; exporting leaves it as it is."""
    return ZOO[name](seed=seed)


@cache
def exported(name: str, seed: int = 0) -> Exported:
    """Its graph and weights."""
    return export(example(name, seed).module, example(name, seed).inputs, MAX_ROWS)


def small_graph(*nodes: Node, weights: tuple[WeightSpec, ...] = ()) -> Graph:
    """A graph of one input [rows, 4]; the last node is the output."""
    spec = TensorSpec("x", "float32", (None, 4))
    last = Ref("node", len(nodes) - 1)
    return Graph((spec,), weights, nodes, (Output(spec._replace(name="y"), last),))


_TENSOR_CALLS = ("relu", "neg", "tanh", "exp")
_NUMBERS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=True, width=64),
    st.booleans(),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Valid graphs with every kind of argument."""
    weights = tuple(
        WeightSpec(f"w{i}", draw(st.sampled_from(["float32", "int64", "bool"])), (4, i))
        for i in range(draw(st.integers(0, 3)))
    )
    values = [Ref("input", 0), *(Ref("weight", i) for i in range(len(weights)))]
    nodes: list[Node] = []
    for index in range(draw(st.integers(1, 8))):
        nodes.append(draw(_nodes(values)))
        values += [Ref("node", index, k) for k in range(nodes[-1].outputs)]
    rows = draw(st.none() | st.integers(1, 64))
    spec = TensorSpec("x", "float32", (None, draw(st.integers(0, 9))))
    name = draw(st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1))
    outputs = (Output(TensorSpec(name, "float32", (None,)), draw(st.sampled_from(values))),)
    return Graph((spec,), weights, tuple(nodes), outputs, rows, draw(st.booleans()))


def _nodes(values: list[Ref]) -> st.SearchStrategy[Node]:
    ref = st.sampled_from(values)
    return st.one_of(
        st.builds(lambda op, x: Node(op, (x,)), st.sampled_from(_TENSOR_CALLS), ref),
        st.builds(lambda x, n: Node("add.Tensor", (x, n)), ref, ref | _NUMBERS),
        st.builds(lambda xs: Node("cat", (tuple(xs), 0)), st.lists(ref, min_size=1)),
        st.builds(lambda x, n: Node("chunk", (x, n, 1), (), n), ref, st.integers(2, 5)),
        st.builds(lambda x: Node("to.dtype", (x, DType("float64"))), ref),
        st.builds(
            lambda x, dtype: Node("sum", (x,), (("dtype", DType(dtype)),)),
            ref,
            st.sampled_from(["float32", "int64"]),
        ),
    )
