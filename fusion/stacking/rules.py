"""How each operator runs on the values of all members at once; NotStackable for all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from fusion.ir import Arg, Node, Ref, refs_in
from fusion.stacking.builder import Builder, NotStackable, Stacked, bound, rebuilt, tensors

Rule = Callable[[Builder, Node], Stacked]

# Slots of members are not next to each other, so kernels of a grouped convolution are copied: at
# every run, and uncounted beside the activations that were measured at deploy.
MOST_COPIED_BYTES = 256 * 2**10

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
_LAST_BY_DEFAULT = ["glu", "topk", "sort"]
_FIRST_BY_DEFAULT = [
    "cat",
    "stack",
    "chunk",
    "unbind.int",
    "split.Tensor",
    "split_with_sizes",
    "slice.Tensor",
]
_DIMS = [
    "dim",
    "dims",
    "dim0",
    "dim1",
    "axis0",
    "axis1",
    "source",
    "destination",
    "start_dim",
    "end_dim",
]
_REDUCTIONS = frozenset({"mean.dim", "sum.dim_IntList", "amax", "amin"})
_CHANNELWISE = """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest2d upsample_nearest2d.vec
    upsample_bilinear2d upsample_bilinear2d.vec
"""


def pointwise(builder: Builder, node: Node) -> Stacked:
    """Values are broadcast; in channels where all are there."""
    found = tensors(
        [*refs_in(node.args), *(r for _, v in node.kwargs for r in refs_in(v))], builder
    )
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
    x, sizes = _self(node), node.args[1]
    assert isinstance(sizes, tuple), node
    value = builder.emit("reshape", builder.front(x), (builder.members, *_same(builder, sizes)))
    return Stacked((value,))


def expand(builder: Builder, node: Node) -> Stacked:
    """Members stay; dimensions that are missing come after them."""
    x, sizes = _self(node), node.args[1]
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
    if builder.rank(_self(node)) != 2:
        raise NotStackable("no matrix")
    return Stacked((builder.emit("transpose.int", builder.front(node.args[0]), 1, 2),))


def linear(builder: Builder, node: Node) -> Stacked:
    """One batched product over the members, straight on their slots."""
    x, weight = node.args[:2]
    bias = node.args[2] if len(node.args) > 2 else None
    assert isinstance(x, Ref), node
    assert isinstance(weight, Ref), node
    if builder.rank(x) < 2 or builder.rank(weight) != 2:
        raise NotStackable("no matrices")
    kernel = builder.emit("transpose.int", builder.front(weight), 1, 2)
    return _product(builder, x, kernel, bias)


def addmm(builder: Builder, node: Node) -> Stacked:
    """The same with the weight as it is."""
    bias, x, weight = node.args
    if node.kwargs or not isinstance(x, Ref):
        raise NotStackable("scaled")
    return _product(builder, x, builder.front(weight), bias)


def _product(builder: Builder, x: Ref, kernel: Ref, bias: Arg) -> Stacked:
    flat = builder.flat(x, kept=1)
    if bias is None:
        found = builder.emit("bmm", flat, kernel)
    else:
        found = builder.emit("baddbmm", builder.aligned(bias, 2), flat, kernel)
    return Stacked((builder.unflat(found, x, kept=1),))


def matmul(builder: Builder, node: Node) -> Stacked:
    """Products of matrices, `mm`, `bmm` and `matmul`."""
    a, b = node.args
    assert isinstance(a, Ref), node
    assert isinstance(b, Ref), node
    ranks = builder.rank(a), builder.rank(b)
    if min(ranks) < 2:
        raise NotStackable("a vector")
    if ranks[1] == 2 and builder.is_stacked(a) and builder.is_stacked(b):
        return _product(builder, a, builder.front(b), None)
    rank = max(ranks)
    value = builder.emit("matmul", builder.aligned(a, rank), builder.aligned(b, rank))
    return Stacked((value,))


def layer_norm(builder: Builder, node: Node) -> Stacked:
    """Normalised together, then scaled by each member's weights."""
    given = bound(node, {"weight": None, "bias": None, "eps": 1e-5})
    x, weight, bias = _self(node), given["weight"], given["bias"]
    shape = builder.same(given["normalized_shape"])
    found = builder.emit("layer_norm", builder.front(x), shape, None, None, given["eps"])
    rank = builder.rank(x)
    if weight is not None and bias is not None:
        scale, shift = builder.aligned(weight, rank), builder.aligned(bias, rank)
        found = builder.emit("addcmul", shift, found, scale)
    elif weight is not None:
        found = builder.emit("mul.Tensor", found, builder.aligned(weight, rank))
    return Stacked((found,))


def embedding(builder: Builder, node: Node) -> Stacked:
    """Rows are gathered from each member's table."""
    table, indices = node.args[:2]
    assert isinstance(table, Ref), node
    assert isinstance(indices, Ref), node
    if builder.dtype(indices) != torch.int64 or not builder.rank(indices):
        raise NotStackable("gather takes int64")
    if builder.is_stacked(indices):
        flat = builder.emit("unsqueeze", builder.flat(indices, kept=0), -1)
        wide = builder.emit("expand", flat, (-1, -1, builder.size(table, 1)))
        found = builder.emit("gather", builder.front(table), 1, wide)
    else:
        flat = builder.emit("flatten.using_ints", builder.same(indices), 0, -1)
        found = builder.emit("index_select", builder.front(table), 1, flat)
    return Stacked((builder.unflat(found, indices, kept=0),))


def attention(builder: Builder, node: Node) -> Stacked:
    """Members are rows: there are no weights inside."""
    given = bound(node)
    query = given["query"]
    assert isinstance(query, Ref), node
    for name in ("query", "key", "value", "attn_mask"):
        value = given.get(name)
        if not isinstance(value, Ref):
            continue
        is_whole = builder.rank(value) == 4 and builder.size(value, 0) == builder.size(query, 0)
        if builder.is_stacked(value) and is_whole:
            given[name] = builder.emit("flatten.using_ints", builder.front(value), 0, 1)
        elif builder.is_stacked(value) or is_whole:
            raise NotStackable("a mask that is not of rows")
        else:
            given[name] = builder.same(value)
    found = rebuilt(builder, node, given).values[0]
    return Stacked((builder.emit("unflatten.int", found, 0, (builder.members, -1)),))


def convolution(builder: Builder, node: Node) -> Stacked:
    """One grouped convolution: the channels of each member are groups of their own."""
    given = bound(node, {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1})
    weight, bias = given["weight"], given["bias"]
    assert isinstance(weight, Ref), node
    if not builder.is_stacked(weight):
        raise NotStackable("a kernel that is computed")
    given["input"] = builder.channels(given["input"])
    given["weight"] = _kernels(builder, weight)
    if bias is not None:
        given["bias"] = builder.emit("flatten.using_ints", builder.front(bias), 0, 1)
    given["groups"] = builder.emit("int.mul", builder.members, given["groups"])
    return rebuilt(builder, node, given)._replace(layout="channels")


def _kernels(builder: Builder, weight: Ref) -> Ref:
    """[members * out, in, ...], copied in the order of memory: a permuted one stays permuted."""
    sizes = [builder.size(weight, dim) for dim in range(builder.rank(weight))]
    if torch.Size(sizes).numel() * builder.dtype(weight).itemsize > MOST_COPIED_BYTES:
        raise NotStackable("kernels too large to copy")
    made = builder.nodes[builder.front(weight).index]
    if weight.kind == "node" and made.operator == "permute":
        source, dims = made.args
        assert isinstance(dims, tuple), made
        if dims[:2] == (0, 1):
            flat = builder.emit("flatten.using_ints", source, 0, 1)
            return builder.emit("permute", flat, tuple(d - 1 for d in dims[1:]))  # type: ignore[operator]  # ints
    return builder.emit("flatten.using_ints", builder.front(weight), 0, 1)


def channelwise(builder: Builder, node: Node) -> Stacked:
    """Pools and the like: each channel by itself."""
    given = {name: builder.same(v) for name, v in bound(node).items() if not isinstance(v, Ref)}
    first = next(iter(bound(node)))
    given = {first: builder.channels(node.args[0]), **given}
    return rebuilt(builder, node, given)._replace(layout="channels")


def size_of(builder: Builder, node: Node) -> Ref:
    """A size of a member's value: the same for all."""
    x, dim = node.args
    assert isinstance(x, Ref), node
    assert type(dim) is int, node
    dim = dim if dim >= 0 else dim + builder.rank(x)
    if builder.native(x) == "channels" and dim != 1:
        return builder.emit("sym_size.int", builder.channels(x), dim)
    return builder.emit("sym_size.int", builder.front(x), dim + 1)


def _self(node: Node) -> Ref:
    x = node.args[0]
    assert isinstance(x, Ref), node
    return x


def _same(builder: Builder, values: Sequence[Arg]) -> tuple[Arg, ...]:
    return tuple(builder.same(value) for value in values)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **dict.fromkeys(_ALONG.split(), along),
    **dict.fromkeys(("view", "reshape", "_unsafe_view"), sized),
    **dict.fromkeys(("expand", "broadcast_to"), expand),
    "permute": permute,
    "t": transpose,
    "linear": linear,
    "addmm": addmm,
    **dict.fromkeys(("mm", "bmm", "matmul"), matmul),
    "layer_norm": layer_norm,
    "embedding": embedding,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("conv1d", "conv2d"), convolution),
    **dict.fromkeys(_CHANNELWISE.split(), channelwise),
}
