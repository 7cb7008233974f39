"""Six layers of 512: memory-bound at few rows."""

import torch
from torch import nn

WIDTH = 512


def load() -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers)


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, WIDTH)}
