"""Operator name to the callable that runs it.

Hot operators use the C bindings under `torch`: they parse arguments about 2 us faster than the
`torch.ops.aten` objects, which serve every other operator.
"""

import operator as python
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from fusion import mkldnn
from fusion.operators import operator

INT_LIMIT = 1 << 63  # results of int.* stay in 64 bits, so that a chain of products ends

_TORCH = """
    conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding
    conv_transpose1d conv_transpose2d.input conv_transpose3d.input
    addmm mm bmm baddbmm matmul batch_norm layer_norm group_norm relu sigmoid tanh
    softmax.int log_softmax.int max_pool1d max_pool2d max_pool3d avg_pool1d adaptive_avg_pool1d
    mean mean.dim sum sum.dim_IntList amax amin argmax cumsum exp log sqrt rsqrt neg abs erf sin cos
    add.Tensor sub.Tensor mul.Tensor div.Tensor pow.Tensor_Scalar rsub.Scalar
    clamp clamp_min clamp_max maximum minimum where.self masked_fill.Scalar masked_fill.Tensor
    logical_not logical_and eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor
    le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar ge.Tensor
    flatten.using_ints transpose.int permute t squeeze.dim unsqueeze cat stack chunk select.int
    index_select gather embedding lstm.input gru.input rnn_tanh.input rnn_relu.input
"""
_NN = """
    linear gelu silu hardswish hardtanh hardsigmoid leaky_relu elu softplus mish relu6
    avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d scaled_dot_product_attention pad
    upsample_nearest2d upsample_nearest2d.vec upsample_bilinear2d upsample_bilinear2d.vec
"""
_TENSOR = "view reshape expand contiguous repeat to.dtype"
_OWNERS: tuple[tuple[frozenset[str], object], ...] = tuple(
    (frozenset(names.split()), owner)
    for names, owner in ((_TORCH, torch), (_NN, torch._C._nn), (_TENSOR, torch.Tensor))
)


@cache
def binding(name: str) -> Callable[..., Any]:
    """The callable of an operator; KeyError for one that `operator` does not know."""
    operator(name)
    base, _, overload = name.partition(".")
    if base == "int":
        return _INTEGERS[name]
    if base == "mkldnn":
        return mkldnn.OPERATORS[overload]
    if name == "sym_size.int":
        return torch.Tensor.size
    for names, owner in _OWNERS:
        found: Callable[..., Any] | None = getattr(owner, base, None) if name in names else None
        if found is not None:
            return found
    packet: Any = getattr(torch.ops.aten, base)
    return getattr(packet, overload or "default")  # type: ignore[no-any-return] # torch.ops is Any


def dtype(name: str) -> torch.dtype:
    """torch's dtype of a name from `ir.DTYPE_BYTES`."""
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def dtype_name(value: torch.dtype) -> str:
    """The name used in graphs."""
    return str(value).removeprefix("torch.")


def _bounded(compute: Callable[..., int]) -> Callable[..., int]:
    def call(*args: Any) -> int:
        result = compute(*args)
        if not -INT_LIMIT <= result < INT_LIMIT:
            raise OverflowError("a size of the graph does not fit in 64 bits")
        return result

    return call


_INTEGERS: dict[str, Callable[..., Any]] = {
    "int.add": _bounded(python.add),
    "int.sub": _bounded(python.sub),
    "int.mul": _bounded(python.mul),
    "int.floordiv": _bounded(python.floordiv),
    "int.mod": _bounded(python.mod),
    "int.neg": _bounded(python.neg),
    "int.min": min,
    "int.max": max,
    "int.sum": _bounded(sum),
    "int.truediv": python.truediv,
    "int.float": float,
}
