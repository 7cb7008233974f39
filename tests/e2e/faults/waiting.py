"""Waiting for what other processes do: there is nothing to wait on but what they show."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LOOK_S = 0.01
PATIENCE_S = 60.0
T = TypeVar("T")


def eventually(
    look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S, look_s: float = LOOK_S
) -> T:
    """The first truthy value that `look` gives; fails with `what` after `patience_s`."""
    give_up_at_s = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < give_up_at_s, f"not within {patience_s:g} s: {what}"
        time.sleep(look_s)
    return found
