"""What became of each function in device memory: its loads, evictions and thrash.

Records only; every moment is an argument, by one clock.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

# functions remembered, least recently asked for first to be forgotten; resident ones stay
KEPT = 4096
# A load is thrash when the function was evicted to make room less than this, or so many times what
# the load took, before it began.
THRASH_S, THRASH_LOADS = 1.0, 10.0
# A function that came in settles until a group has used it, at most this long.
SETTLE_S = 1.0
# of the newest gap between two uses in the smoothed one
GAP_WEIGHT = 0.2


@dataclass(slots=True)
class Past:
    """One function. Sums are over all of its loads or evictions, in seconds."""

    loads: int = 0
    load_s: float = 0.0
    # the part of both whose bytes were not in host memory
    disk_loads: int = 0
    disk_load_s: float = 0.0
    thrash: int = 0
    evictions: int = 0
    # ages at eviction: since the last use, and since it came in
    idle_s: float = 0.0
    stayed_s: float = 0.0
    last_idle_s: float | None = None
    last_stayed_s: float | None = None
    # of the newest load that compared no digests: what bringing it back costs
    reload_s: float | None = None
    asked_at_s: float | None = None
    used_at_s: float | None = None
    # smoothed seconds between two groups that asked for it
    gap_s: float | None = None
    # None while it is not resident
    loaded_at_s: float | None = None
    # since it came in
    has_run: bool = False
    pushed_out_at_s: float | None = None


class History:
    """The past of functions by key; SlotTable lends it its lock."""

    def __init__(self, kept: int = KEPT) -> None:
        self.thrash = 0
        self._kept = kept
        # least recently asked for first
        self._pasts: OrderedDict[str, Past] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._pasts

    def __len__(self) -> int:
        return len(self._pasts)

    def asked(self, key: str, now_s: float) -> None:
        """A group begins to use it."""
        past = self._pasts.setdefault(key, Past())
        self._pasts.move_to_end(key)
        if past.asked_at_s is not None:
            gap_s = now_s - past.asked_at_s
            before_s = gap_s if past.gap_s is None else past.gap_s
            past.gap_s = before_s + GAP_WEIGHT * (gap_s - before_s)
        past.asked_at_s = past.used_at_s = now_s
        self._forget_oldest()

    def released(self, key: str, now_s: float) -> None:
        """A group has run it."""
        if key in self._pasts:
            self._pasts[key].used_at_s = now_s
            self._pasts[key].has_run = True

    def loaded(
        self,
        key: str,
        load_s: float,
        now_s: float,
        was_on_disk: bool = False,
        was_verified: bool = True,
    ) -> None:
        """It has come in: `load_s` until now."""
        past = self._pasts.setdefault(key, Past())
        past.loads += 1
        past.load_s += load_s
        past.disk_loads += was_on_disk
        past.disk_load_s += load_s if was_on_disk else 0.0
        if was_verified:
            past.reload_s = load_s
        past.loaded_at_s, past.has_run = now_s, False
        if past.pushed_out_at_s is not None:
            away_s = now_s - load_s - past.pushed_out_at_s
            is_thrash = away_s < max(THRASH_S, THRASH_LOADS * load_s)
            past.thrash += is_thrash
            self.thrash += is_thrash
        past.pushed_out_at_s = None

    def arrived(self, key: str, copy_s: float) -> None:
        """What the copies of its load took: its load returned when they were queued."""
        past = self._pasts.get(key)
        if past is not None and past.reload_s is not None:
            past.reload_s = max(past.reload_s, copy_s)

    def evicted(self, key: str, now_s: float, is_pushed_out: bool) -> None:
        """It leaves; `is_pushed_out` says that others needed the room."""
        past = self._pasts.get(key)
        if past is None or past.loaded_at_s is None:
            return
        past.evictions += 1
        past.last_stayed_s = now_s - past.loaded_at_s
        past.last_idle_s = now_s - (past.loaded_at_s if past.used_at_s is None else past.used_at_s)
        past.stayed_s += past.last_stayed_s
        past.idle_s += past.last_idle_s
        past.loaded_at_s = None
        past.pushed_out_at_s = now_s if is_pushed_out else None
        self._forget_oldest()

    def is_settling(self, key: str, now_s: float) -> bool:
        """Whether it came in a moment ago and nobody has used it yet."""
        past = self._pasts.get(key)
        if past is None or past.loaded_at_s is None or past.has_run:
            return False
        return now_s - past.loaded_at_s < SETTLE_S

    def of(self, key: str) -> Past:
        """A function's past, empty where it has none; to be read only."""
        return self._pasts.get(key) or Past()

    def newest(self, count: int) -> dict[str, Past]:
        """Copies of the pasts of the functions last asked for, the last of them last."""
        keys = [*self._pasts][-count:]
        return {key: replace(self._pasts[key]) for key in keys}

    def forget(self, key: str) -> None:
        """The function will not come back."""
        self._pasts.pop(key, None)

    def _forget_oldest(self) -> None:
        if len(self._pasts) > self._kept:
            away = (key for key, past in self._pasts.items() if past.loaded_at_s is None)
            oldest = next(away, None)
            if oldest is not None:
                del self._pasts[oldest]
