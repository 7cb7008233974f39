"""Models that are larger than their budget: of the published sizes, with weights of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.zoo import Example, seeded, text, vision

VOCABULARY, TOKENS = 30_522, 128
_VGG_16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class BlockModel(NamedTuple):
    """A model, and how much slower it may be in blocks; small ones have no bars."""

    name: str
    make: Callable[[], Example]
    cold_bar: float | None = None
    warm_bar: float | None = None


def bert_base() -> nn.Module:
    """768 wide, 12 layers of 12 heads, 3072 between: 436 MB."""
    model = text.Bert(VOCABULARY, 768, 12, 12)
    model.positions = nn.Embedding(512, 768)
    for layer in model.layers:
        layer.up, layer.down = nn.Linear(768, 3072), nn.Linear(3072, 768)
    return model


def vgg_16() -> nn.Module:
    """Thirteen convolutions, three linear layers that hold nine tenths of the bytes: 553 MB."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in _VGG_16:
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(512 * 49, 4096)]
    layers += [nn.ReLU(inplace=True), nn.Linear(4096, 4096), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(4096, 1000))


def _image(size: int = 224) -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, size, size)}


def _tokens(length: int, vocabulary: int) -> dict[str, Tensor]:
    ids = torch.randint(0, vocabulary, (2, length))
    return {"ids": ids, "mask": torch.ones(2, length, dtype=torch.int64)}


def _model(
    name: str,
    module: Callable[[], nn.Module],
    inputs: Callable[[], dict[str, Tensor]],
    bars: tuple[float, float] | tuple[()] = (),
) -> BlockModel:
    return BlockModel(name, partial(seeded, module, inputs), *bars)


MODELS = (
    _model("ResNet-50", partial(vision.resnet50, classes=1000), _image, (1.10, 1.05)),
    _model("BERT-base-sized", bert_base, partial(_tokens, TOKENS, VOCABULARY), (1.10, 1.05)),
    _model("VGG-16", vgg_16, _image, (1.25, 1.15)),
)
# of the same patterns, in seconds: a hand-over between threads is much of what they take
SMALL_MODELS = (
    _model("ResNet-50, half as wide", partial(vision.resnet50, width=32), partial(_image, 64)),
    _model("BERT, 256 wide", partial(text.Bert, 8000, 256, 4, 4), partial(_tokens, 64, 8000)),
)
