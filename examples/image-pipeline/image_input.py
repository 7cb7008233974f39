"""From an event to the inputs of both functions; travels with them and needs no torch."""

from __future__ import annotations

import base64
import binascii
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
# of a file's name in UTF-8; longer ones are cut
NAME_BYTES = 64
MAX_PIXELS = 50_000_000


def preprocess(payload: Any) -> dict[str, np.ndarray]:
    """`{"name": text, "image": base64}` -> [1, 3, 64, 64] float32, 0 to 1; [1, 64] uint8."""
    if not isinstance(payload, dict):
        raise ValueError('expected {"name": "...", "image": "<base64>"}')
    name, image = payload.get("name"), payload.get("image")
    if not isinstance(name, str):
        raise ValueError(f"name: expected a text, got {type(name).__name__}")
    if not isinstance(image, str):
        raise ValueError(f"image: expected base64, got {type(image).__name__}")
    return {"images": _pixels(image), "name": _packed(name)}


def name_of(packed: np.ndarray) -> str:
    """[64] uint8 -> the name of the file."""
    return packed.tobytes().rstrip(b"\0").decode(errors="ignore")


def _packed(name: str) -> np.ndarray:
    data = name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
    return np.frombuffer(data, np.uint8).copy()[None]


def _pixels(encoded: str) -> np.ndarray:
    try:
        file = BytesIO(base64.b64decode(encoded, validate=True))
    except binascii.Error as error:
        raise ValueError(f"image: expected base64, got an error: {error}") from error
    with Image.open(file) as image:
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height}"
            raise ValueError(f"image: expected at most {MAX_PIXELS} pixels, got {size}")
        small = image.convert("RGB").resize((SIDE, SIDE))
    return (np.asarray(small, np.float32) / 255).transpose(2, 0, 1)[None]
