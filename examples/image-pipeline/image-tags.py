"""What is on an image: the three most probable of ten tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from image_input import name_of, preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["example_inputs", "files", "load", "postprocess", "preprocess"]

TAGS = ("air", "animal", "car", "food", "house", "person", "plant", "road", "text", "water")
SHOWN = 3


def load() -> nn.Module:
    """The model with its random weights."""
    from image_model import Tagger

    return Tagger(len(TAGS)).eval()


def example_inputs() -> dict[str, Tensor]:
    """Two images."""
    from image_model import example_inputs

    return example_inputs()


def files() -> list[str]:
    """What the hooks import."""
    return ["image_input.py"]


def postprocess(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """[1, 10] float32, [1, 64] uint8 -> the file and its tags, the most probable first."""
    probabilities = outputs["probabilities"][0]
    best = probabilities.argsort()[::-1][:SHOWN]
    tags = {TAGS[place]: float(probabilities[place]) for place in best}
    return {"file": name_of(outputs["name"][0]), "tags": tags}
