"""ResNet-18 with seeded weights: one architecture, as many functions as there are seeds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 100
SIDE = 64


class Block(nn.Module):
    """Two 3x3 convolutions around which the input is added, projected where shapes differ."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[rows, channels_in, h, w] -> [rows, channels, h / stride, w / stride]."""
        y = self.bn1(self.conv1(x)).relu()
        total: Tensor = self.bn2(self.conv2(y)) + self.shortcut(x)
        return total.relu()


class ResNet18(nn.Module):
    """11.2 million parameters, 45 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        channels = [64, 64, 128, 256, 512]
        self.blocks = nn.Sequential(
            *(
                Block(channels[i if first else i + 1], channels[i + 1], 2 if i and first else 1)
                for i in range(4)
                for first in (True, False)
            )
        )
        self.head = nn.Linear(512, CLASSES)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[rows, 3, 64, 64] float32 -> [rows, 100] float32."""
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))  # [rows, 512] float32
        return {"logits": self.head(features)}


def build(seed: int) -> nn.Module:
    """The member of the family that this seed determines, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ResNet18()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                _randomize(module)
    return model.eval()


def _randomize(norm: nn.BatchNorm2d) -> None:
    # a fresh BatchNorm is the identity, and folding it would prove nothing
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0.0, 0.1)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0.0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)


def example_inputs() -> dict[str, Tensor]:
    """Two images."""
    return {"images": torch.linspace(-1, 1, 2 * 3 * SIDE * SIDE).reshape(2, 3, SIDE, SIDE)}
