"""A small convolutional net: some milliseconds a row."""

import torch
from torch import nn

SIDE = 64


def load() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, 3, SIDE, SIDE)}
