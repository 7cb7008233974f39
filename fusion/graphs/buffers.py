"""The fixed tensors that a captured run reads, and the way in and out of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.bindings import dtype
from fusion.ir import Graph, TensorSpec


class Buffers:
    """Inputs of one member at a row bucket. Rows that a run does not fill keep what they had.

    That is harmless where rows do not influence each other: what comes out of them is cut off.
    """

    def __init__(self, graph: Graph, rows: int, device: torch.device) -> None:
        self.rows = rows
        self.inputs = [_zeros(spec, rows, device) for spec in graph.inputs]  # [rows, ...], device

    @property
    def bytes(self) -> int:
        """Bytes of the inputs."""
        return sum(x.nbytes for x in self.inputs)

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether a copy would broadcast or convert nothing: up to `rows` rows of these shapes."""
        rows = inputs[0].size(0)
        return 0 < rows <= self.rows and all(
            x.size(0) == rows
            and x.shape[1:] == buffer.shape[1:]
            and x.dtype == buffer.dtype
            and x.device == buffer.device
            for x, buffer in zip(inputs, self.inputs, strict=True)
        )

    def fill(self, inputs: Sequence[Tensor]) -> None:
        """Copy a run's inputs in; they must fit."""
        for x, buffer in zip(inputs, self.inputs, strict=True):
            buffer[: x.size(0)].copy_(x)

    def sample(self, rows: int) -> list[Tensor]:
        """`rows` rows to try a graph with: numbers from 0 to 1, and 0 where they may be indices."""
        generator = torch.Generator().manual_seed(rows)
        return [_sample(buffer, rows, generator) for buffer in self.inputs]


def cut(outputs: Sequence[Tensor], rows: int) -> list[Tensor]:
    """The first `rows` rows of each output as copies: the next replay writes over the outputs."""
    return [output[:rows].clone() for output in outputs]


def bucket_of(graph: Graph, rows: int) -> int:
    """The rows that a captured run computes for up to `rows`."""
    return graph.fixed_rows or rows


def can_pad(graph: Graph) -> bool:
    """Whether a run of fewer rows gives the same in a bucket of more."""
    return graph.batchable and graph.fixed_rows is None


def _zeros(spec: TensorSpec, rows: int, device: torch.device) -> Tensor:
    shape = [rows if size is None else size for size in spec.shape]
    return torch.zeros(shape, dtype=dtype(spec.dtype), device=device)


def _sample(buffer: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    shape = (rows, *buffer.shape[1:])
    if not buffer.is_floating_point():
        return torch.zeros(shape, dtype=buffer.dtype, device=buffer.device)
    return torch.rand(shape, generator=generator).to(buffer)
