"""Two small models on one backbone; the weights are random, but the same each time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from image_input import NAME_BYTES, SIDE
from torch import Tensor, nn

CHANNELS = 64


class Tagger(nn.Module):
    """Probabilities of tags."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.backbone = _seeded(0, _backbone)
        self.head = _seeded(1, lambda: nn.Linear(CHANNELS, tags))

    def forward(self, images: Tensor, name: Tensor) -> dict[str, Tensor]:
        """[rows, 3, 64, 64] float32, [rows, 64] uint8 -> [rows, tags] float32, and the name."""
        features = self.backbone(images).mean(dim=(2, 3))  # [rows, 64] float32
        # a result says of which file it is: nothing but outputs comes to `postprocess`
        return {"probabilities": self.head(features).softmax(dim=1), "name": name.clone()}


class Embedder(nn.Module):
    """A vector of length 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = _seeded(0, _backbone)
        self.head = _seeded(2, lambda: nn.Linear(CHANNELS, width))

    def forward(self, images: Tensor, name: Tensor) -> dict[str, Tensor]:
        """[rows, 3, 64, 64] float32, [rows, 64] uint8 -> [rows, width] float32, and the name."""
        features = self.backbone(images).mean(dim=(2, 3))  # [rows, 64] float32
        vector = nn.functional.normalize(self.head(features), dim=1)
        return {"embedding": vector, "name": name.clone()}


def example_inputs() -> dict[str, Tensor]:
    """Two images and their names."""
    return {
        "images": torch.linspace(0, 1, 2 * 3 * SIDE * SIDE).reshape(2, 3, SIDE, SIDE),
        "name": torch.arange(2 * NAME_BYTES, dtype=torch.uint8).reshape(2, NAME_BYTES),
    }


def _backbone() -> nn.Module:
    channels = (3, 16, 32, CHANNELS)
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def _seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
