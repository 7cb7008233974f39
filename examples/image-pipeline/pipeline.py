"""The pipeline in parts: its commands, images to drop, and what comes out of the stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from receiver import Event
from redis import Redis

HOME = Path(__file__).parent
FUNCTIONS = ("image-tags", "image-embedding")
STREAM = "events:images"
# what a function gets of a file's event
INPUT = "{name: subject, image: data_base64}"
SIZE = (96, 72)
# in one reply of the store
AT_ONCE = 500
BLOCK_MS = 500


def commands(folder: Path, webhook: str) -> Iterator[tuple[str, ...]]:
    """The `fusebox` commands that make the pipeline, each as its words."""
    told = ("--on-success", f"stream:{STREAM}", "--on-success", webhook)
    for name in FUNCTIONS:
        yield ("deploy", str(HOME / f"{name}.py"), "--name", name, *told)
    watched = ("--watch", str(folder), "--pattern", "*.png")
    # files come whole: `drop` renames them into the folder
    looks = ("--settle-s", "0", "--every-s", "0.2")
    for name in FUNCTIONS:
        yield ("triggers", "create", name, name, *watched, *looks, "--input", INPUT)


def undo_commands() -> Iterator[tuple[str, ...]]:
    """The `fusebox` commands that take it away again."""
    for name in FUNCTIONS:
        yield ("triggers", "rm", name)
    for name in FUNCTIONS:
        yield ("rm", name)


def drop(folder: Path, number: int) -> str:
    """Write an image of its own for each number into the folder; its name."""
    random = np.random.default_rng(number)
    # a few coarse blocks of colour
    blocks = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    name = f"image-{number:05}.png"
    part = folder / f"{name}.part"
    with part.open("wb") as file:
        Image.fromarray(blocks).resize(SIZE).save(file, "png")
    part.rename(folder / name)
    return name


def opened(store: str) -> Redis:
    """The platform's store; `store`: unix:///PATH/.fusebox/store.sock or redis://..."""
    # replies as this protocol has them
    return Redis.from_url(store, protocol=2)


def newest_entry(redis: Redis) -> str:
    """Id of the stream's last entry."""
    found: Any = redis.xrevrange(STREAM, count=1)
    return str(found[0][0].decode()) if found else "0-0"


def entries(redis: Redis, after: str, wanted: int, timeout_s: float) -> list[Event]:
    """The events on the stream behind this entry: so many, or what has come within the time."""
    found: list[Event] = []
    give_up_at_s = time.monotonic() + timeout_s
    while len(found) < wanted and time.monotonic() < give_up_at_s:
        streams: Any = redis.xread({STREAM: after}, count=AT_ONCE, block=BLOCK_MS)
        for _, batch in streams:
            records = [json.loads(fields[b"event"]) for _, fields in batch]
            found += [Event(record["id"], record) for record in records]
            after = batch[-1][0].decode()
    return found
