"""A matrix of 64 MiB: a worker that holds it has grown."""

import torch

WIDTH = 4096


def load() -> torch.nn.Module:
    return torch.nn.Linear(WIDTH, WIDTH, bias=False)


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, WIDTH)}
