"""How operators with weights, and those of images, run on the values of all members at once."""

from __future__ import annotations

import torch

from fusion.ir import Arg, Node, Ref
from fusion.stacking.builder import Builder, NotStackable, Rule, Stacked, bound, first, rebuilt

# Slots of members are not next to each other, so kernels of a grouped convolution are copied: at
# every run, and uncounted beside the activations that were measured at deploy.
MOST_COPIED_BYTES = 256 * 2**10

_CHANNELWISE = """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest2d upsample_nearest2d.vec
    upsample_bilinear2d upsample_bilinear2d.vec
"""


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
    x, weight, bias = first(node), given["weight"], given["bias"]
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
    if builder.rank(first(node)) != builder.rank(weight):
        raise NotStackable("an image without rows")
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
    x = first(node)
    if builder.rank(x) != _pixel_dims(node.operator) + 2:
        raise NotStackable("an image without rows")
    name, *_ = arguments = bound(node)
    given = {key: builder.same(value) for key, value in arguments.items() if key != name}
    given = {name: builder.channels(x), **given}
    return rebuilt(builder, node, given)._replace(layout="channels")


def _pixel_dims(operator_name: str) -> int:
    """2 of max_pool2d."""
    return int(operator_name.partition(".")[0][-2])


PRODUCTS: dict[str, Rule] = {
    "linear": linear,
    "addmm": addmm,
    **dict.fromkeys(("mm", "bmm", "matmul"), matmul),
    "layer_norm": layer_norm,
    "embedding": embedding,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("conv1d", "conv2d"), convolution),
    **dict.fromkeys(_CHANNELWISE.split(), channelwise),
}
