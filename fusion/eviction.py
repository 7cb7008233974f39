"""Who leaves when more must fit: orders of eviction. Policy only, without torch or a clock."""

from collections.abc import Callable, Container, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from fusion.history import History
from fusion.lru import ByteLru

V = TypeVar("V")
# (evictable keys with their bytes, least recently used first; history; now) -> first victim first
Order = Callable[[Mapping[str, int], History, float], Sequence[str]]


def by_recency(sizes: Mapping[str, int], history: History, now_s: float) -> Sequence[str]:
    """The least recently used first."""
    return list(sizes)


def by_cost(sizes: Mapping[str, int], history: History, now_s: float) -> Sequence[str]:
    """Who saves the fewest seconds of loading per byte and second of staying first.

    A function is expected back after its smoothed gap between uses, or after as long as it is
    idle already where that is more; of one used once, the longest gap of the others is expected.
    """
    pasts = {key: history.of(key) for key in sizes}
    gaps = [past.gap_s for past in pasts.values() if past.gap_s is not None]
    longest_s = max(gaps, default=0.0)
    known = [past.reload_s / max(sizes[k], 1) for k, past in pasts.items() if past.reload_s]
    # of functions that came in once: their load compared digests as well
    common_s_per_byte = fmean(known) if known else 1.0

    def saved(key: str) -> float:
        past, size = pasts[key], max(sizes[key], 1)
        s_per_byte = past.reload_s / size if past.reload_s else common_s_per_byte
        idle_s = 0.0 if past.used_at_s is None else now_s - past.used_at_s
        wait_s = max(longest_s if past.gap_s is None else past.gap_s, idle_s)
        return s_per_byte / wait_s if wait_s > 0 else float("inf")

    return sorted(sizes, key=saved)


ORDERS: dict[str, Order] = {"lru": by_recency, "cost": by_cost}


def choose_victims(
    slots: ByteLru[str, V],
    bytes_: int,
    spared: Container[str],
    order: Order,
    history: History,
    now_s: float,
    frees: Callable[[str], int] | None = None,
) -> list[str]:
    """Who leaves so that `bytes_` are freed; [] where that cannot be.

    Functions that settle leave after all others, so that a load is not undone at once where another
    could go; they delay nobody.
    """
    return slots.victims(bytes_, spared, ranked(slots, spared, order, history, now_s), frees)


def ranked(
    slots: ByteLru[str, V], spared: Container[str], order: Order, history: History, now_s: float
) -> list[str]:
    """All that may leave, the first victim first."""
    sizes = {k: slots.bytes_of(k) for k in slots if not slots.pins(k) and k not in spared}
    return sorted(order(sizes, history, now_s), key=lambda k: history.is_settling(k, now_s))
