"""A small CNN for 8x8 images of handwritten digits."""

from __future__ import annotations

from torch import Tensor, nn


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class DigitNet(nn.Module):
    """Two convolutions, each with BatchNorm, and two linear layers: 38,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(_block(1, 16), _block(16, 32), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        """[rows, 1, 8, 8] float32, 0 to 1 -> logits [rows, 10] float32."""
        logits: Tensor = self.head(self.features(images))
        return logits


class DigitClassifier(nn.Module):
    """What is deployed: the net and a softmax."""

    def __init__(self, net: DigitNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[rows, 1, 8, 8] float32, 0 to 1 -> [rows, 10] float32."""
        return {"probabilities": self.net(images).softmax(dim=1)}
