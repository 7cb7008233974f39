"""Models whose memory is compared, by the names of their sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from tests.zoo import ZOO, Example, seeded, text, vision

Maker = Callable[[], Example]
HEADS = 8
PIXELS = 224


def _images(size: int = PIXELS) -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, size, size)}


def _tokens(length: int = 64) -> dict[str, Tensor]:
    ids = torch.randint(0, 1000, (2, length))
    return {"ids": ids, "mask": torch.ones(2, length, dtype=torch.int64)}


# the zoo's models at the widths that are deployed, not those that make tests quick
DIFFERENT: dict[str, Maker] = {
    "resnet18": partial(seeded, partial(vision.resnet18, classes=1000), _images),
    "resnet50": partial(seeded, partial(vision.resnet50, classes=1000), _images),
    "mobilenet": partial(seeded, partial(vision.MobileNet, 32, (1, 2, 3, 4, 3)), _images),
    "vgg": partial(seeded, partial(vision.Vgg, 64, 4096), partial(_images, 64)),
    "unet": partial(seeded, partial(vision.UNet, 32), partial(_images, 128)),
    "bert": partial(seeded, partial(text.Bert, 30_000, 384, 6, 6), _tokens),
    "encoder": partial(
        seeded, partial(text.encoder, 512, 6), lambda: {"src": torch.randn(2, 64, 512)}
    ),
    "lstm": partial(seeded, partial(text.Lstm, 256, 512), lambda: {"x": torch.randn(2, 32, 256)}),
}


def _tuned(model: Maker, head: int) -> Example:
    """The same model with a last layer of its own."""
    example = model()
    last = [part for part in example.module.modules() if isinstance(part, nn.Linear)][-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(head)
        last.reset_parameters()
    return example


SETS: Mapping[str, Mapping[str, Maker]] = {
    "8 different models": DIFFERENT,
    "8 heads on one ResNet-18": {
        f"head{k}": partial(_tuned, DIFFERENT["resnet18"], k) for k in range(HEADS)
    },
    "4 different models, 4 heads on one ResNet-18": {
        **{name: DIFFERENT[name] for name in ("mobilenet", "unet", "bert", "lstm")},
        **{f"head{k}": partial(_tuned, DIFFERENT["resnet18"], k) for k in range(HEADS // 2)},
    },
    "8 small models": {name: ZOO[name] for name in [*ZOO][:8]},
    "2 small models": {name: ZOO[name] for name in ("mlp", "tiny_cnn")},
}
