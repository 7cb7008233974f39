"""A model that export refuses: each row takes the way that its values decide."""

import torch
from torch import nn


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positive, self.negative = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ways = [self.positive if row.sum() > 0 else self.negative for row in x]
        return torch.stack([way(row) for way, row in zip(ways, x, strict=True)])


def load() -> nn.Module:
    torch.manual_seed(3)
    return Branching()


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.arange(8.0).reshape(2, 4)}
