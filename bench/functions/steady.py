"""Tens of milliseconds of one core per row, in groups as alone: the device is what is full."""

import torch

WIDTH = 320
STEPS = 30


class Steady(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(WIDTH, WIDTH) / WIDTH**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # [rows, WIDTH, WIDTH]
        h = x[:, :1].unsqueeze(2) * self.weight
        for _ in range(STEPS):
            h = torch.tanh(torch.matmul(h, self.weight))
        return h[:, 0, :4]


def load() -> torch.nn.Module:
    return Steady()


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.ones(2, 4)}
