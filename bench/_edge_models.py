"""Six functions like BCEdge's: their layers and proportions, small enough for one core of a CPU.

BCEdge (Zhang et al., 2023) serves YOLO-v5, MobileNet-v3, ResNet-18, EfficientNet-B0, Inception-v3
and TinyBERT. Here they are narrower, with fewer repeats and inputs of 64 pixels instead of 224 and
more; weights are random, for no policy looks at what a function answers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tests.zoo import Example, seeded, text, vision

PIXELS, TOKENS, VOCABULARY = 64, 32, 5_000


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(vision.conv(inputs, outputs, kernel, stride, groups), nn.SiLU())


class _Split(nn.Module):
    """YOLO's cross-stage block: half of the channels go through bottlenecks, all are joined."""

    def __init__(self, width: int, bottlenecks: int) -> None:
        super().__init__()
        half = width // 2
        self.first, self.second = _conv(width, half, 1), _conv(width, half, 1)
        self.body = nn.ModuleList(
            nn.Sequential(_conv(half, half, 1), _conv(half, half, 3)) for _ in range(bottlenecks)
        )
        self.join = _conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        for part in self.body:
            a = a + part(a)
        return self.join(torch.cat([a, self.second(x)], 1))


class Yolo(nn.Module):
    """Backbone, one level of the neck upwards, one head: [rows, 16 cells, 4 + 1 + 3]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, width, 3, 2), _conv(width, 2 * width, 3, 2))
        self.low = nn.Sequential(
            _Split(2 * width, 1), _conv(2 * width, 4 * width, 3, 2), _Split(4 * width, 2),
            _conv(4 * width, 4 * width, 3, 2),
        )  # fmt: skip
        self.high = nn.Sequential(_conv(4 * width, 8 * width, 3, 2), _Split(8 * width, 1))
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.neck = nn.Sequential(_conv(12 * width, 4 * width, 1), _Split(4 * width, 1))
        self.head = nn.Conv2d(4 * width, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(self.stem(x))
        joined = torch.cat([low, self.up(self.high(low))], 1)
        return self.head(self.neck(joined)).flatten(2).transpose(1, 2).sigmoid()


class _SqueezeExcite(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), nn.SiLU(),
            nn.Conv2d(inner, width, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


class _MbConv(nn.Module):
    """EfficientNet's block: expand, by channel, squeeze and excite, project."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            _conv(inputs, hidden, 1), _conv(hidden, hidden, 3, stride, hidden),
            _SqueezeExcite(hidden, max(4, inputs // 4)), vision.conv(hidden, outputs, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


def efficientnet(width: int = 32, repeats: Sequence[int] = (1, 2, 3, 3)) -> nn.Module:
    """EfficientNet's pattern in four stages."""
    layers, inputs = [_conv(3, width, 3, 2)], width
    for stage, count in enumerate(repeats):
        for block in range(count):
            outputs = width * (stage + 1)
            layers.append(_MbConv(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return nn.Sequential(
        *layers, _conv(inputs, 4 * inputs, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4 * inputs, 100),
    )  # fmt: skip


class _Branches(nn.Module):
    """Inception's block: 1x1, 3x3, two 3x3 for a 5x5, and pooling, side by side."""

    def __init__(self, inputs: int, each: int) -> None:
        super().__init__()
        self.one = _relu(inputs, each, 1)
        self.three = nn.Sequential(_relu(inputs, each, 1), _relu(each, each, 3))
        self.five = nn.Sequential(
            _relu(inputs, each, 1), _relu(each, each, 3), _relu(each, each, 3)
        )
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), _relu(inputs, each, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def _relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(vision.conv(inputs, outputs, kernel, stride), nn.ReLU())


def inception(width: int = 32) -> nn.Module:
    """A stem and four blocks of branches, pooled between the second and the third."""
    each = width
    return nn.Sequential(
        _relu(3, width, 3, 2), _relu(width, 2 * width, 3), nn.MaxPool2d(3, 2, 1),
        _Branches(2 * width, each), _Branches(4 * each, each), nn.MaxPool2d(3, 2, 1),
        _Branches(4 * each, 2 * each), _Branches(8 * each, 2 * each),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * each, 100),
    )  # fmt: skip


class TinyBert(text.Bert):
    """Four layers, 256 wide; [rows, 256]."""

    def __init__(self) -> None:
        super().__init__(VOCABULARY, 256, 4, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return super().forward(ids, mask)["pooled"]


def _image() -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, PIXELS, PIXELS)}


def _tokens() -> dict[str, Tensor]:
    ids = torch.randint(0, VOCABULARY, (2, TOKENS))
    return {"ids": ids, "mask": torch.ones(2, TOKENS, dtype=torch.int64)}


class EdgeModel(NamedTuple):
    """A function's name and what it is made of."""

    name: str
    make: Callable[[], Example]


def _model(
    name: str, module: Callable[[], nn.Module], inputs: Callable[[], dict[str, Tensor]] = _image
) -> EdgeModel:
    return EdgeModel(name, partial(seeded, module, inputs))


MODELS = (
    _model("yolo", Yolo),
    _model("mobilenet", partial(vision.MobileNet, 32, (1, 2, 3, 2))),
    _model("resnet18", partial(vision.resnet18, 32)),
    _model("efficientnet", efficientnet),
    _model("inception", inception),
    _model("tinybert", TinyBert, _tokens),
)
_HANDLER = """
from bench._edge_models import MODELS

_example = {{model.name: model.make for model in MODELS}}[{name!r}]()


def load():
    return _example.module


def example_inputs():
    return _example.inputs
"""


def write_handlers(folder: Path) -> dict[str, Path]:
    """Files that `fusebox deploy` takes, by function; the root must be on PYTHONPATH."""
    paths = {model.name: folder / f"{model.name}.py" for model in MODELS}
    for name, path in paths.items():
        path.write_text(_HANDLER.format(name=name))
    return paths


def body(model: EdgeModel, rows: int) -> bytes:
    """The body of a call, application/x-npz."""
    inputs = model.make().inputs.items()
    file = io.BytesIO()
    np.savez(file, **{name: np.repeat(x[:1].numpy(), rows, axis=0) for name, x in inputs})
    return file.getvalue()
