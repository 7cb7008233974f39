"""Tensors that lie at equal distances in memory as one tensor, without a copy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# numpy knows no bfloat16
_CARRIERS = {torch.bfloat16: torch.int16}


class _Memory:
    """Memory by its address, as the array interfaces of numpy and of CUDA describe it."""

    def __init__(self, first: Tensor, count: int, distance_bytes: int) -> None:
        carrier = torch.empty(0, dtype=_CARRIERS.get(first.dtype, first.dtype)).numpy()
        item_bytes = first.element_size()
        described: dict[str, Any] = {
            "version": 3,
            "shape": (count, *first.shape),
            "strides": (distance_bytes, *[item_bytes * step for step in first.stride()]),
            "typestr": carrier.dtype.str,
            # not read-only, of which torch warns
            "data": (first.data_ptr(), False),
        }
        name = "__cuda_array_interface__" if first.is_cuda else "__array_interface__"
        setattr(self, name, described)


def strided(tensors: Sequence[Tensor]) -> Tensor | None:
    """[len(tensors), *shape], to be read only; None where distances differ or go down.

    All must be alike in shape, dtype, strides and device. The result does not keep the memory:
    it must not be used after the tensors are gone.
    """
    first = tensors[0]
    addresses = [tensor.data_ptr() for tensor in tensors]
    distance_bytes = addresses[1] - addresses[0] if len(tensors) > 1 else 0
    steps = {b - a for a, b in itertools.pairwise(addresses)}
    if distance_bytes < 0 or steps - {distance_bytes} or distance_bytes % first.element_size():
        return None
    if not first.numel():
        return torch.stack(list(tensors))  # nothing to copy, and an address of nothing
    memory = _Memory(first, len(tensors), distance_bytes)
    if first.is_cuda:
        found = torch.as_tensor(memory, device=first.device)
    else:
        found = torch.from_numpy(np.asarray(memory))
    return found.view(first.dtype)


def progressions(addresses: Sequence[int]) -> list[list[int]]:
    """Indices of the addresses in runs of equal distances, ascending; each index once.

    Any two are one run; a longer run is taken as far as it goes.
    """
    order = sorted(range(len(addresses)), key=addresses.__getitem__)
    runs: list[list[int]] = []
    for index in order:
        run = runs[-1] if runs else []
        if len(run) == 1 or (len(run) > 1 and _continues(run, index, addresses)):
            run.append(index)
        else:
            runs.append([index])
    return runs


def _continues(run: Sequence[int], index: int, addresses: Sequence[int]) -> bool:
    step = addresses[run[1]] - addresses[run[0]]
    return addresses[index] - addresses[run[-1]] == step
