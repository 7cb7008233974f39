"""Inception-V3 without its auxiliary head, for 299 px: 24 million parameters (Szegedy 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]
# (outputs, kernel, stride, padding) of a convolution
Conv = tuple[int, Size, int, Size]

_FIRST: tuple[Conv, ...] = ((32, 3, 2, 0), (32, 3, 1, 0), (64, 3, 1, 1))
_SECOND: tuple[Conv, ...] = ((80, 1, 1, 0), (192, 3, 1, 0))


def inception_v3(classes: int = 1000) -> nn.Module:
    """The model, batch normalisation after each convolution."""
    layers: list[nn.Module] = [_chain(3, *_FIRST), nn.MaxPool2d(3, 2)]
    layers += [_chain(64, *_SECOND), nn.MaxPool2d(3, 2)]
    inputs = 192
    for pooled in (32, 64, 64):
        branches = ([(64, 1, 1, 0)], [(48, 1, 1, 0), (64, 5, 1, 2)], _double(96, 1))
        layers.append(Mixed(inputs, branches, pooled))
        inputs = 224 + pooled
    layers.append(Mixed(inputs, ([(384, 3, 2, 0)], _double(96, 2)), None))
    inputs = 768
    for width in (128, 160, 160, 192):
        layers.append(Mixed(inputs, ([(192, 1, 1, 0)], _seven(width, 1), _seven(width, 2)), 192))
    last = [(192, 1, 1, 0), (192, (1, 7), 1, (0, 3)), (192, (7, 1), 1, (3, 0)), (192, 3, 2, 0)]
    layers.append(Mixed(inputs, ([(192, 1, 1, 0), (320, 3, 2, 0)], last), None))
    layers += [Expanded(1280), Expanded(2048)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, classes))


class Mixed(nn.Module):
    """Branches of convolutions and one that pools, concatenated."""

    def __init__(self, inputs: int, branches: tuple[list[Conv], ...], pooled: int | None) -> None:
        super().__init__()
        made = [_chain(inputs, *branch) for branch in branches]
        if pooled is None:
            made.append(nn.MaxPool2d(3, 2))
        else:
            made.append(nn.Sequential(nn.AvgPool2d(3, 1, 1), _chain(inputs, (pooled, 1, 1, 0))))
        self.branches = nn.ModuleList(made)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Expanded(nn.Module):
    """The last two blocks, whose branches part once more: 2048 channels."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.plain = _chain(inputs, (320, 1, 1, 0))
        self.one = _chain(inputs, (384, 1, 1, 0))
        self.two = _chain(inputs, (448, 1, 1, 0), (384, 3, 1, 1))
        self.wide = nn.ModuleList(_chain(384, (384, (1, 3), 1, (0, 1))) for _ in range(2))
        self.tall = nn.ModuleList(_chain(384, (384, (3, 1), 1, (1, 0))) for _ in range(2))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), _chain(inputs, (192, 1, 1, 0)))

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.plain(x)]
        for k, branch in enumerate((self.one, self.two)):
            y = branch(x)
            parts += [self.wide[k](y), self.tall[k](y)]
        return torch.cat([*parts, self.pooled(x)], 1)


def _double(width: int, stride: int) -> list[Conv]:
    return [(64, 1, 1, 0), (width, 3, 1, 1), (width, 3, stride, 1 if stride == 1 else 0)]


def _seven(width: int, times: int) -> list[Conv]:
    """A convolution of seven by seven in turns of one by seven and seven by one."""
    turns: list[Conv] = [(width, (1, 7), 1, (0, 3)), (width, (7, 1), 1, (3, 0))] * times
    return [(width, 1, 1, 0), *turns[:-1], (192, *turns[-1][1:])]


def _chain(inputs: int, *convs: Conv) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outputs, kernel, stride, padding in convs:
        layers.append(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers)
