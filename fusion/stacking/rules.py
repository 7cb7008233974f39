"""How each operator runs on the values of all members at once; NotStackable for all others."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.ir import Arg, Node, Ref, refs_in
from fusion.stacking.builder import (
    Builder,
    NotStackable,
    Rule,
    Stacked,
    bound,
    first,
    rebuilt,
    tensors,
)
from fusion.stacking.products import PRODUCTS

_POINTWISE = """
    relu relu6 hardtanh hardswish hardsigmoid silu gelu leaky_relu elu selu celu mish softplus
    sigmoid log_sigmoid tanh threshold softshrink hardshrink
    add.Tensor add.Scalar sub.Tensor sub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar
    div.Tensor_mode div.Scalar_mode rsub.Scalar rsub.Tensor floor_divide floor_divide.Scalar
    remainder.Tensor remainder.Scalar fmod.Tensor fmod.Scalar
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar neg abs exp expm1 log log1p log2 sqrt rsqrt
    square reciprocal sin cos tan asin acos atan atan2 sinh cosh erf floor ceil round trunc sign
    clamp clamp.Tensor clamp_min clamp_max maximum minimum max.other min.other addcmul addcdiv
    lerp.Scalar lerp.Tensor logaddexp nan_to_num isnan isinf
    where.self where.ScalarOther where.ScalarSelf where.Scalar masked_fill.Scalar
    logical_not logical_and logical_or logical_xor bitwise_not bitwise_and.Tensor bitwise_or.Tensor
    bitwise_xor.Tensor bitwise_and.Scalar bitwise_or.Scalar
    eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor
    gt.Scalar gt.Tensor ge.Scalar ge.Tensor
    to.dtype clone contiguous
"""
_ALONG = """
    softmax.int log_softmax.int cumsum logsumexp mean.dim sum.dim_IntList amax amin argmax argmin
    max.dim min.dim prod.dim_int any.dim all.dim var.correction std.correction var.dim std.dim
    transpose.int swapaxes movedim.int unsqueeze squeeze.dim squeeze.dims unflatten.int flip
    select.int narrow flatten.using_ints
    glu topk sort
    cat stack chunk unbind.int split.Tensor split_with_sizes slice.Tensor
"""
_LAST_BY_DEFAULT = frozenset({"glu", "topk", "sort"})
_FIRST_BY_DEFAULT = frozenset(
    {"cat", "stack", "chunk", "unbind.int", "split.Tensor", "split_with_sizes", "slice.Tensor"}
)
_DIMS = frozenset(
    {"dim", "dims", "dim0", "dim1", "axis0", "axis1", "source", "destination"}
    | {"start_dim", "end_dim"}
)
_REDUCTIONS = frozenset({"mean.dim", "sum.dim_IntList", "amax", "amin"})


def pointwise(builder: Builder, node: Node) -> Stacked:
    """Values are broadcast; in channels where all are there."""
    found = tensors(node.refs(), builder)
    rank = max(map(builder.rank, found))
    in_channels = all(
        builder.is_stacked(ref)
        and builder.native(ref) == "channels"
        and builder.rank(ref) == rank
        # broadcasting over channels would meet those of other members
        and builder.size(ref, 1) == builder.size(found[0], 1)
        for ref in found
    )

    def move(value: Arg) -> Arg:
        if not isinstance(value, Ref) or not builder.is_tensor(value):
            return builder.same(value)
        return builder.channels(value) if in_channels else builder.aligned(value, rank)

    args = tuple(move(value) for value in node.args)
    kwargs = tuple((name, move(value)) for name, value in node.kwargs)
    value = builder.append(Node(node.operator, args, kwargs))
    return Stacked((value,), "channels" if in_channels else "front")


def along(builder: Builder, node: Node) -> Stacked:
    """Dimensions count one more, since members come first."""
    arguments = bound(node, _defaults(node))
    if node.operator in _REDUCTIONS and _is_over_pixels(builder, arguments):
        arguments["self"] = builder.channels(arguments["self"])
        return rebuilt(builder, node, arguments)._replace(layout="channels")
    named = [name for name in _DIMS if name in arguments]
    if not named and node.operator not in _LAST_BY_DEFAULT:
        raise NotStackable("over all dimensions")
    if "tensors" in arguments:
        ranks = {builder.rank(ref) for ref in refs_in(arguments["tensors"])}
        if len(ranks) != 1:
            raise NotStackable("ranks differ")
    moved = {
        name: _shifted(value) if name in named else _moved(builder, value)
        for name, value in arguments.items()
    }
    return rebuilt(builder, node, moved)


def _defaults(node: Node) -> dict[str, Arg]:
    if node.operator == "flatten.using_ints":
        return {"start_dim": 0, "end_dim": -1}
    return {"dim": 0} if node.operator in _FIRST_BY_DEFAULT else {}


def _moved(builder: Builder, value: Arg) -> Arg:
    if isinstance(value, tuple):
        return tuple(_moved(builder, item) for item in value)
    is_tensor = isinstance(value, Ref) and builder.is_tensor(value)
    return builder.front(value) if is_tensor else builder.same(value)


def _shifted(dims: Arg) -> Arg:
    if type(dims) is int:
        return dims + 1 if dims >= 0 else dims
    if isinstance(dims, tuple) and dims:
        return tuple(_shifted(dim) for dim in dims)
    raise NotStackable("over all dimensions")


def _is_over_pixels(builder: Builder, arguments: dict[str, Arg]) -> bool:
    x, dims = arguments["self"], arguments.get("dim")
    if not isinstance(x, Ref) or not builder.is_stacked(x) or builder.native(x) != "channels":
        return False
    rank = builder.rank(x)
    dims = dims if isinstance(dims, tuple) else (dims,)
    return bool(dims) and all(type(d) is int and (d >= 2 or 2 <= d + rank < rank) for d in dims)


def sized(builder: Builder, node: Node) -> Stacked:
    """`view` and its kin; without a view where the layout of the stack allows none."""
    x, sizes = first(node), node.args[1]
    assert isinstance(sizes, tuple), node
    value = builder.emit("reshape", builder.front(x), (builder.members, *_same(builder, sizes)))
    return Stacked((value,))


def expand(builder: Builder, node: Node) -> Stacked:
    """Members stay; dimensions that are missing come after them."""
    x, sizes = first(node), node.args[1]
    assert isinstance(sizes, tuple), node
    value = builder.emit("expand", builder.aligned(x, len(sizes)), (-1, *_same(builder, sizes)))
    return Stacked((value,))


def permute(builder: Builder, node: Node) -> Stacked:
    """Members stay in front."""
    dims = _shifted(node.args[1])
    assert isinstance(dims, tuple), node
    return Stacked((builder.emit("permute", builder.front(node.args[0]), (0, *dims)),))


def transpose(builder: Builder, node: Node) -> Stacked:
    """`t`."""
    if builder.rank(first(node)) != 2:
        raise NotStackable("no matrix")
    return Stacked((builder.emit("transpose.int", builder.front(node.args[0]), 1, 2),))


def size_of(builder: Builder, node: Node) -> Ref:
    """A size of a member's value: the same for all."""
    x, dim = node.args
    assert isinstance(x, Ref), node
    assert type(dim) is int, node
    dim = dim if dim >= 0 else dim + builder.rank(x)
    if builder.native(x) == "channels" and dim != 1:
        return builder.emit("sym_size.int", builder.channels(x), dim)
    return builder.emit("sym_size.int", builder.front(x), dim + 1)


def _same(builder: Builder, values: Sequence[Arg]) -> tuple[Arg, ...]:
    return tuple(builder.same(value) for value in values)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **dict.fromkeys(_ALONG.split(), along),
    **dict.fromkeys(("view", "reshape", "_unsafe_view"), sized),
    **dict.fromkeys(("expand", "broadcast_to"), expand),
    "permute": permute,
    "t": transpose,
    **PRODUCTS,
}
