"""Which files of a folder are new and finished: pure, with the time as an argument.

A file is finished when two looks, the settle time apart, saw the same size and time of change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Found(NamedTuple):
    """A file as a listing has it."""

    name: str
    # another one means another content
    signature: str
    # Unix seconds
    modified_s: float
    size: int


class Waiting(NamedTuple):
    """A file that may still be written to, and since when it has looked as it does."""

    signature: str
    since_s: float


class Look(NamedTuple):
    """What a look at a folder found."""

    # new and finished, oldest first
    ready: tuple[Found, ...]
    waiting: dict[str, Waiting]
    # dealt with before, and there no more
    gone: tuple[str, ...]


def look(
    done: Mapping[str, str],
    waiting: Mapping[str, Waiting],
    files: Iterable[Found],
    now_s: float,
    settle_s: float,
) -> Look:
    """What is new in `files`; `done` has the signatures that were dealt with, by name."""
    ready: list[Found] = []
    still: dict[str, Waiting] = {}
    names: set[str] = set()
    for file in files:
        names.add(file.name)
        if done.get(file.name) == file.signature:
            continue
        before = waiting.get(file.name)
        is_same = before is not None and before.signature == file.signature
        seen = before if is_same and before else Waiting(file.signature, now_s)
        if now_s - seen.since_s >= settle_s:
            ready.append(file)
        # one that is not taken this time, for whatever reason, need not settle again
        still[file.name] = seen
    ready.sort(key=lambda file: (file.modified_s, file.name))
    return Look(tuple(ready), still, tuple(name for name in done if name not in names))


def existing(files: Iterable[Found], created_at_s: float) -> dict[str, str]:
    """Files from before a trigger, as if they had been dealt with."""
    return {file.name: file.signature for file in files if file.modified_s < created_at_s}
