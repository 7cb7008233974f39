"""Inputs to test a model with, made from its example inputs."""

from collections.abc import Mapping

import torch
from torch import Tensor


def with_rows(x: Tensor, rows: int) -> Tensor:
    """The rows of `x` in turn, until there are `rows`."""
    return x[torch.arange(rows) % len(x)].contiguous()


def probe_inputs(example: Mapping[str, Tensor], rows: int, seed: int) -> dict[str, Tensor]:
    """`rows` rows that differ from each other and stay plausible."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _varied(with_rows(x, rows), generator) for name, x in example.items()}


def _varied(x: Tensor, generator: torch.Generator) -> Tensor:
    if x.dtype.is_floating_point:
        noise = torch.randn(x.shape, generator=generator)
        spread = x.float().std(correction=0) * 0.1 + x.float().abs().mean() * 0.1
        return (x.float() + noise * spread).to(x.dtype)
    # Ids, masks and lengths: only values the example has, each row in an order of its own.
    flat = x.reshape(len(x), -1)  # [rows, entries]
    orders = torch.rand(flat.shape, generator=generator).argsort(1)
    return flat.gather(1, orders).reshape(x.shape)
