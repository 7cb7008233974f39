"""An image as a vector: similar images have similar ones, if the weights were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from image_input import name_of, preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["example_inputs", "files", "load", "postprocess", "preprocess"]

WIDTH = 16


def load() -> nn.Module:
    """The model with its random weights."""
    from image_model import Embedder

    return Embedder(WIDTH).eval()


def example_inputs() -> dict[str, Tensor]:
    """Two images."""
    from image_model import example_inputs

    return example_inputs()


def files() -> list[str]:
    """What the hooks import."""
    return ["image_input.py"]


def postprocess(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """[1, 16] float32, [1, 64] uint8 -> the file and its vector."""
    return {"file": name_of(outputs["name"][0]), "embedding": outputs["embedding"][0].tolist()}
