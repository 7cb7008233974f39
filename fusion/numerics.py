"""How far values may differ that are computed in other ways."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Relative: kernels choose another order of sums for other layouts and numbers of rows.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
_HALF = (torch.float16, torch.bfloat16)


def all_close(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether all shapes are equal and all values, relative to the largest of their tensor."""
    return len(outputs) == len(expected) and all(map(_is_close, outputs, expected))


def _is_close(a: Tensor, b: Tensor) -> bool:
    tolerance = HALF_TOLERANCE if b.dtype in _HALF else TOLERANCE
    largest = float(b.abs().max()) if b.numel() and b.dtype != torch.bool else 0.0
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.allclose(a, b, rtol=tolerance, atol=tolerance * max(largest, 1.0), equal_nan=True)
    )
