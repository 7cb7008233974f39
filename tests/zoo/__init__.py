"""Small seeded models of many kinds: `ZOO[name]()` gives a module and its example inputs."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.zoo import shapes, text, vision

MAX_ROWS = 8


class Example(NamedTuple):
    """A module in eval mode, and inputs of 2 rows by forward's parameter names."""

    module: nn.Module
    inputs: dict[str, Tensor]


def _image(size: int) -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, size, size)}


def _tokens(length: int, vocabulary: int = 50) -> dict[str, Tensor]:
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, length // 2 :] = 0
    return {"ids": torch.randint(0, vocabulary, (2, length)), "mask": mask}


def seeded(
    module: Callable[[], nn.Module], inputs: Callable[[], dict[str, Tensor]], seed: int = 0
) -> Example:
    """Weights and inputs depend on the seed alone; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = module().eval()
        vision.settle_batchnorm(built)
        return Example(built, inputs())


_Inputs = Callable[[], dict[str, Tensor]]
_MODELS: dict[str, tuple[Callable[[], nn.Module], _Inputs]] = {
    "mlp": (shapes.Mlp, lambda: {"x": torch.randn(2, 16)}),
    "tiny_cnn": (vision.TinyCnn, partial(_image, 16)),
    "resnet18": (partial(vision.resnet18, width=8), partial(_image, 32)),
    "resnet50": (partial(vision.resnet50, width=4), partial(_image, 32)),
    "plain_cnn": (vision.PlainCnn, partial(_image, 16)),
    "mobilenet": (partial(vision.MobileNet, width=8), partial(_image, 32)),
    "vgg": (partial(vision.Vgg, width=4), partial(_image, 32)),
    "unet": (partial(vision.UNet, width=4), partial(_image, 16)),
    "vit": (vision.Vit, partial(_image, 16)),
    "lstm": (text.Lstm, lambda: {"x": torch.randn(2, 7, 8)}),
    "gru": (text.Gru, lambda: {"x": torch.randn(2, 7, 8)}),
    "encoder": (text.encoder, lambda: {"src": torch.randn(2, 6, 16)}),
    "bert": (text.Bert, partial(_tokens, 10)),
    "embedding": (text.Bag, lambda: {"ids": torch.randint(0, 50, (2, 5))}),
    "several_inputs": (
        shapes.SeveralInputs,
        lambda: {"a": torch.randn(2, 4), "b": torch.randn(2, 3, 4), "k": torch.arange(2)},
    ),
    "tuple_output": (shapes.TupleOutput, lambda: {"x": torch.randn(2, 6)}),
    "dict_output": (shapes.DictOutput, lambda: {"x": torch.randn(2, 6)}),
    "in_place": (shapes.InPlace, partial(_image, 8)),
}
ZOO: dict[str, Callable[..., Example]] = {
    name: partial(seeded, module, inputs) for name, (module, inputs) in _MODELS.items()
}
