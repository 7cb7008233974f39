"""What members compute from identical tensors once, on the rows of all of them."""

from collections.abc import Sequence

import torch

from fusion.merge import Merged
from fusion.strategies.serial import Serial
from fusion.strategies.work import Outcome, Work

# Relative: kernels choose another order of sums for other numbers of rows.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
_HALF = (torch.float16, torch.bfloat16)


class Prefix:
    """A merged graph with a shared prefix; its first run is compared with one without."""

    def __init__(self, merged: Merged, serial: Serial) -> None:
        self._shared = Serial(merged)
        self._serial = serial
        # unknown before the first run
        self._is_right: bool | None = None
        self.bytes = self._shared.bytes

    def __call__(self, works: Sequence[Work]) -> list[Outcome]:
        """Run all; without the shared prefix, should it have given other results than that."""
        if self._is_right:
            return self._shared(works)
        outcomes = self._serial(works)
        if self._is_right is None:
            self._is_right = all(map(_is_close, self._shared(works), outcomes))
        return outcomes


def _is_close(shared: Outcome, apart: Outcome) -> bool:
    if isinstance(shared, Exception) or isinstance(apart, Exception):
        return isinstance(shared, Exception) and isinstance(apart, Exception)
    return all(map(_is_tensor_close, shared, apart))


def _is_tensor_close(a: torch.Tensor, b: torch.Tensor) -> bool:
    tolerance = HALF_TOLERANCE if b.dtype in _HALF else TOLERANCE
    largest = float(b.abs().max()) if b.numel() else 0.0
    return a.shape == b.shape and torch.allclose(
        a, b, rtol=tolerance, atol=tolerance * max(largest, 1.0), equal_nan=True
    )
