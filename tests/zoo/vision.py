"""Image models, shaped like the well-known ones, of any width."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def settle_batchnorm(module: nn.Module) -> None:
    """Give every batch normalisation statistics as training would: zeros and ones prove little."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution without bias, then batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class TinyCnn(nn.Sequential):
    """Two convolutions and a linear layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            conv(3, width, 3, 2),
            nn.ReLU(inplace=True),
            conv(width, 2 * width, 3, 2),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 10),
        )


class PlainCnn(nn.Sequential):
    """No residual connections; biases, leaky activations and average pooling."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(3, width, 5, padding="same"),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d(2),
            nn.Conv2d(width, width, 3),
            nn.BatchNorm2d(width),
            nn.Hardswish(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(width * 9, 10),
            nn.LogSoftmax(dim=1),
        )


class Residual(nn.Module):
    """A body beside a shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def _basic(inputs: int, width: int, stride: int) -> Residual:
    body = nn.Sequential(
        conv(inputs, width, 3, stride), nn.ReLU(inplace=True), conv(width, width, 3)
    )
    same = stride == 1 and inputs == width
    return Residual(body, nn.Identity() if same else conv(inputs, width, 1, stride))


def _bottleneck(inputs: int, width: int, stride: int) -> Residual:
    body = nn.Sequential(
        conv(inputs, width, 1),
        nn.ReLU(inplace=True),
        conv(width, width, 3, stride),
        nn.ReLU(inplace=True),
        conv(width, 4 * width, 1),
    )
    same = stride == 1 and inputs == 4 * width
    return Residual(body, nn.Identity() if same else conv(inputs, 4 * width, 1, stride))


def _stem(width: int) -> list[nn.Module]:
    return [conv(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]


def _head(features: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def resnet18(width: int = 64, classes: int = 10) -> nn.Module:
    """ResNet-18; the paper's has width 64 and 1000 classes."""
    layers, inputs = _stem(width), width
    for stage in range(4):
        for block in range(2):
            outputs, stride = width * 2**stage, 2 if stage and not block else 1
            layers.append(_basic(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, *_head(inputs, classes))


def resnet50(
    width: int = 64, classes: int = 10, depths: tuple[int, ...] = (3, 4, 6, 3)
) -> nn.Module:
    """ResNet-50; the paper's has width 64 and 1000 classes. Depths 3, 8, 36, 3: ResNet-152."""
    layers, inputs = _stem(width), width
    for stage, blocks in enumerate(depths):
        for block in range(blocks):
            inner, stride = width * 2**stage, 2 if stage and not block else 1
            layers.append(_bottleneck(inputs, inner, stride))
            inputs = 4 * inner
    return nn.Sequential(*layers, *_head(inputs, classes))


class InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            conv(inputs, hidden, 1),
            nn.ReLU6(inplace=True),
            conv(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(inplace=True),
            conv(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


class MobileNet(nn.Sequential):
    """MobileNet-V2; the paper's has width 32 and every stage repeated."""

    def __init__(self, width: int = 32, repeats: Sequence[int] = (1, 2, 2, 2)) -> None:
        layers, inputs = [conv(3, width, 3, 2), nn.ReLU6(inplace=True)], width
        for stage, count in enumerate(repeats):
            for block in range(count):
                outputs, stride = width * (stage + 1), 2 if stage and not block else 1
                layers.append(InvertedResidual(inputs, outputs, stride, 6 if stage else 1))
                inputs = outputs
        super().__init__(*layers, *_head(inputs, 10))


class Vgg(nn.Sequential):
    """VGG-16's pattern: convolutions, pooling, two large linear layers."""

    def __init__(self, width: int = 64, hidden: int = 64) -> None:
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, count in ((width, 2), (2 * width, 2), (4 * width, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(inputs * 16, hidden)]
        super().__init__(*layers, nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(hidden, 10))


class UNet(nn.Module):
    """Two levels down, two up: transposed convolution and bilinear interpolation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = conv(3, width, 3), conv(width, 2 * width, 3)
        self.bottom = conv(2 * width, 2 * width, 3)
        self.grow = nn.ConvTranspose2d(2 * width, 2 * width, 2, 2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.join, self.last = conv(4 * width, width, 3), nn.Conv2d(2 * width, 2, 1)
        self.pool, self.act = nn.MaxPool2d(2), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.first(x))
        b = self.act(self.second(self.pool(a)))
        c = self.grow(self.act(self.bottom(self.pool(b))))
        d = self.up(self.act(self.join(torch.cat([b, c], 1))))
        return self.last(torch.cat([a, d], 1))


class Vit(nn.Module):
    """Patches, a class token, torch's attention."""

    def __init__(self, size: int = 16, patch: int = 4, width: int = 16, layers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)  # [rows, patches, width]
        token = self.token.expand(x.shape[0], -1, -1)
        hidden = self.encoder(torch.cat([token, patches], 1) + self.positions)
        return self.head(hidden[:, 0])
