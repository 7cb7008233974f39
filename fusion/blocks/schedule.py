"""How long a run in blocks takes when computing and reading go on side by side. Pure.

One reader, in the order of the blocks, each begun as soon as its place in the ring is free; one
computation, each block begun as soon as it is there. What no plan can go below is said too.
"""

from __future__ import annotations

from collections.abc import Sequence

from fusion.blocks.records import Extent, Load
from fusion.blocks.ring import Range

# to hand a block over to the reader and back, and until its first bytes come
HANDOVER_S = 100e-6


def played_s(ranges: Sequence[Range], afters: Sequence[int], read_bytes_per_s: float) -> float:
    """Seconds of the second of two runs without a pause between them."""
    count = len(ranges)
    computed: list[float] = []
    read_s, began_s = 0.0, 0.0
    for number in range(2 * count):
        r = ranges[number % count]
        if number == count:
            began_s = computed[-1]
        blocking = number - afters[number % count]
        free_s = computed[blocking] if blocking >= 0 else 0.0
        if r.bytes:
            read_s = max(read_s, free_s) + HANDOVER_S + r.bytes / read_bytes_per_s
        before_s = computed[-1] if computed else 0.0
        computed.append(max(before_s, read_s if r.bytes else 0.0) + HANDOVER_S + r.compute_s)
    return computed[-1] - began_s


def least_s(
    steps: Sequence[Load],
    extents: Sequence[Extent],
    available_bytes: int,
    read_bytes_per_s: float,
) -> float:
    """What a run takes at least, whatever the plan.

    When a step begins, memory holds no more than what is available; so all else that this step and
    those after it use is read after the steps before it were computed.
    """
    after_bytes, compute_s = 0, sum(step.compute_s for step in steps)
    least, before_s = compute_s, compute_s
    seen: set[int] = set()
    for step in reversed(steps):
        before_s -= step.compute_s
        after_bytes += sum(
            extents[k].end - extents[k].begin for k in {*step.extents} if k not in seen
        )
        seen.update(step.extents)
        missing_bytes = max(0, after_bytes - available_bytes)
        least = max(least, before_s + missing_bytes / read_bytes_per_s)
    return least
