"""An image in, a digit out: a small CNN trained by `train.py` on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.safetensors")


def load() -> nn.Module:
    """The trained net."""
    from model import DigitClassifier, DigitNet
    from safetensors.torch import load_file

    net = DigitNet()
    net.load_state_dict(load_file(WEIGHTS))
    return DigitClassifier(net).eval()


def example_inputs() -> dict[str, Tensor]:
    """Two images, 0 to 1."""
    import torch

    return {"images": torch.linspace(0, 1, 2 * 8 * 8).reshape(2, 1, 8, 8)}


def preprocess(payload: Any) -> dict[str, np.ndarray]:
    """`{"image": 8 lists of 8 numbers from 0 to 16}` -> [1, 1, 8, 8] float32."""
    if not isinstance(payload, dict) or "image" not in payload:
        raise ValueError('expected {"image": 8 lists of 8 numbers from 0 to 16}')
    image = np.asarray(payload["image"], np.float32)
    if image.shape != (8, 8):
        raise ValueError(f"image: expected 8 lists of 8 numbers, got shape {list(image.shape)}")
    if not (image.min() >= 0 and image.max() <= 16):
        raise ValueError("image: expected numbers from 0 to 16")
    return {"images": image[None, None] / 16}


def postprocess(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """[1, 10] float32 -> the most probable digit and all ten probabilities."""
    probabilities = outputs["probabilities"][0]
    return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
