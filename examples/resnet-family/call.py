"""Call the family with the Python client: arrays in, arrays out.

First all eight functions at once, which then run together; then one of them with many images.
"""

from __future__ import annotations

import asyncio

import numpy as np

from deploy.client import AsyncClient, Client

NAMES = [f"resnet-{number}" for number in range(1, 9)]
SHAPE = (1, 3, 64, 64)
IMAGES = 64


async def call_all(image: np.ndarray) -> None:
    """Every function, with one image."""
    async with AsyncClient() as client:
        calls = (client.invoke(name, {"images": image}) for name in NAMES)
        for answer in await asyncio.gather(*calls):
            top = int(answer["logits"].argmax())
            functions = answer.group["functions"]
            print(f"{answer.function}: class {top}, in a group of {functions} functions")


def map_images(random: np.random.Generator) -> None:
    """One function, with images that are made when their turn comes."""
    images = (random.random(SHAPE, dtype=np.float32) for _ in range(IMAGES))
    with Client() as client:
        logits = [answer.output for answer in client.map(NAMES[0], images, concurrency=16)]
    print(f"{NAMES[0]}: {np.concatenate(logits).shape} logits of {IMAGES} calls")


def main() -> None:
    """Call the platform at FUSEBOX_URL."""
    random = np.random.default_rng(0)
    asyncio.run(call_all(random.random(SHAPE, dtype=np.float32)))
    map_images(random)


if __name__ == "__main__":
    main()
