"""Which function to bring in before its jobs come. Pure.

Only into room that nothing on the device needs now: never at the cost of what a group holds, of
what is coming too, or of what others have charged. What leaves for it is what LRU gives up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

# A function that did not stay, or could not be brought in, is not tried again within this time.
AGAIN_S = 5.0


class Device(NamedTuple):
    """What is in slots now, and what slots cannot have."""

    budget_bytes: int
    # reserved for activations, charged by others, leaving
    taken_bytes: int
    resident: Collection[str]
    # by groups under way; those that are loading too
    pinned: Collection[str]
    # groups that wait for room
    waiting: int


def next_to_bring_in(
    coming: Sequence[str],
    device: Device,
    sizes: Mapping[str, int],
    tried_s: Mapping[str, float],
    now_s: float,
) -> str | None:
    """The most urgent function that is not there and fits beside all that must stay; or None.

    `coming`: keys, the most urgent first; `sizes`: bytes of each of them and of what is pinned;
    `tried_s`: when each was last brought in, or was to be.
    """
    if device.waiting:
        return None
    spared = spare(coming, device) | {*device.pinned}
    room_bytes = device.budget_bytes - device.taken_bytes - sum(sizes[key] for key in spared)
    for key in coming:
        is_there = key in device.resident or key in device.pinned
        is_too_soon = now_s - tried_s.get(key, float("-inf")) < AGAIN_S
        if not is_there and not is_too_soon and sizes[key] <= room_bytes:
            return key
    return None


def spare(coming: Sequence[str], device: Device) -> set[str]:
    """What must not leave for another, since its own jobs wait."""
    return {key for key in coming if key in device.resident}
