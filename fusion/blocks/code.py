"""Generated code that stops between blocks: a generator, whose frame keeps the activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fusion.codegen import closing, compiled, opening, statements
from fusion.ir import Graph

# weights, inputs -> nothing after each block, and the outputs after the last
Stepwise = Callable[[Sequence[Any], Sequence[Tensor]], Iterator[list[Tensor] | None]]


class Rows(Protocol):
    """A table of which only rows are read; it stands for a weight."""

    def gather(self, indices: Tensor) -> Tensor:
        """The rows, as `embedding` gives them."""


def generate_stepwise(graph: Graph, begins: Sequence[int]) -> Stepwise:
    """Code that pauses before each of these nodes; milliseconds."""
    head, lines = opening(graph), statements(graph)
    pauses = {*begins} - {0}
    body = [
        text
        for place, line in enumerate(lines)
        for text in (["    yield", line] if place in pauses else [line])
    ]
    names = compiled(graph, "\n".join([*head, *body, closing(graph, "yield")]) + "\n")
    names["op_embedding"] = _embedding
    run: Stepwise = names["run"]
    return run


def _embedding(table: Tensor | Rows, indices: Tensor, *rest: Any, **named: Any) -> Tensor:
    if isinstance(table, Tensor):
        return torch.embedding(table, indices, *rest, **named)
    # padding and sparsity are for training
    return table.gather(indices)
