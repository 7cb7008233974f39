"""One matrix of 4 MiB: few of them fit into a small budget."""

import torch

WIDTH = 1024


def load() -> torch.nn.Module:
    return torch.nn.Linear(WIDTH, WIDTH, bias=False)


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, WIDTH)}
