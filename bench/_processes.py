"""Pieces of work spread over processes; what they make of them comes back in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Piece = TypeVar("Piece")
Made = TypeVar("Made")


def spread(
    work: Callable[[Piece], Made], pieces: Sequence[Piece], processes: int | None = None
) -> list[Made]:
    """`work` of every piece, in as many processes as there are cores unless told otherwise.

    With one it is done here and now. `work` is a function of a module, for processes are spawned.
    """
    count = min(processes or len(os.sched_getaffinity(0)), len(pieces))
    if count <= 1:
        return [work(piece) for piece in pieces]
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, pieces))
