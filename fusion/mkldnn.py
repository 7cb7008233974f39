"""Convolutions of oneDNN that add and activate before they write: one pass over memory, not three.

Source: the operators that torch.compile emits (torch/_inductor/fx_passes/mkldnn_fusion.py). They
check less than `conv2d`: only arguments that its checks have seen are passed to them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Sizes = Sequence[int]

_ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {None: lambda x: x, "relu": torch.relu}


def is_available() -> bool:
    """Whether this torch has them."""
    has_it: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_it and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _conv2d_add(
    x: Tensor,
    addend: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Sizes,
    stride: Sizes,
    dilation: Sizes,
    groups: int,
    activation: str | None,
) -> Tensor:
    """activation(conv2d(x) + addend); the addend has the result's shape."""
    if x.is_cpu:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, addend, weight, bias, padding, stride, dilation, groups, "add", 1.0, activation, [],
            None,
        )  # fmt: skip
        return found
    # where only shapes are asked for: torch gives none for the operator above
    plain = torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return _ACTIVATIONS[activation](plain + addend)


# by the part of their names after "mkldnn."
OPERATORS: dict[str, Callable[..., Any]] = {"conv2d_add": _conv2d_add}
if is_available():
    OPERATORS["conv2d"] = torch.ops.mkldnn._convolution_pointwise.default
