"""Embeddings whose table stays in the file: only the rows that a run asks for are read."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.bindings import dtype
from fusion.blocks.reader import BlockFile
from fusion.ir import WeightSpec


class FileTable:
    """A table of the weights file."""

    def __init__(self, file: BlockFile, begin: int, spec: WeightSpec) -> None:
        self._file = file
        self._begin = begin
        self._rows, self._width = spec.shape
        self._dtype = dtype(spec.dtype)
        self._row_bytes = spec.bytes // self._rows

    def gather(self, indices: Tensor) -> Tensor:
        """The rows, [*indices, width]; raises IndexError as torch does."""
        unique, places = torch.unique(indices, return_inverse=True)
        wanted = unique.numpy()
        if wanted.size and not 0 <= wanted[0] <= wanted[-1] < self._rows:
            raise IndexError("index out of range in self")
        found = np.empty(wanted.size * self._row_bytes, np.uint8)
        self._file.gather(self._begin, self._row_bytes, runs_of(wanted), found.data)
        rows = torch.from_numpy(found).view(self._dtype).view(-1, self._width)
        return rows.index_select(0, places.view(-1)).view(*indices.shape, self._width)


def runs_of(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ascending rows as runs without holes: (first, count)."""
    if not rows.size:
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    counts = np.diff(starts, append=rows.size)
    return [(int(rows[k]), int(n)) for k, n in zip(starts, counts, strict=True)]
