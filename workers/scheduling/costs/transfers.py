"""Times that pass before a group computes: weights that come in, fused DAGs that are built."""

from __future__ import annotations

from workers.scheduling.costs.curves import Curve

# Where the bytes come from; any is for who does not know.
HOST, DISK, ANY = "host", "disk", ""
PRIOR_BANDWIDTH_BYTES_PER_S = 1e9
# Workers whose bandwidths are kept; the least lately measured go.
WORKERS = 256

# worker, "" for all of them; where from
Way = tuple[str, str]


class Transfers:
    """Seconds to bring weights in, by worker and tier, and to build a DAG, by members."""

    def __init__(self) -> None:
        # the last measured last
        self.swaps: dict[Way, Curve] = {}
        self.builds = Curve()

    def swap_s(self, swap_bytes: int, worker: str, tier: str) -> float:
        """Of this worker and tier, or else of what is known of others."""
        if not swap_bytes:
            return 0.0
        for way in ((worker, tier), ("", tier), (worker, ANY), ("", ANY)):
            curve = self.swaps.get(way)
            if curve is not None:
                return curve.predict_s(swap_bytes)
        return swap_bytes / PRIOR_BANDWIDTH_BYTES_PER_S

    def learn_swap(self, swap_bytes: int, swap_s: float, worker: str, tier: str) -> list[Way]:
        """Take in a transfer; the ways that were given up for it."""
        for way in {(worker, tier), ("", tier), (worker, ANY), ("", ANY)}:
            # time is taken to grow with all of the bytes until two sizes were seen
            curve = self.swaps.pop(way, None) or Curve(fixed_share=0.0)
            curve.learn(swap_bytes, swap_s)
            self.swaps[way] = curve
        given_up = []
        while len(self.swaps) > 3 * WORKERS:
            given_up.append(next(way for way in self.swaps if way[0]))
            del self.swaps[given_up[-1]]
        return given_up

    def build_s(self, members: int) -> float:
        """Of a DAG that no cache has; 0 before any was built."""
        return self.builds.predict_s(members) if self.builds.is_seen else 0.0
