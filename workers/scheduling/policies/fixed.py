"""A fixed batch per function: it is sent when it is full, or when its oldest job has waited enough.

What most servers are set up to do, and BCEdge's baseline of a fixed batch size. The time limit is
ours, or jobs of a function that is seldom called would wait for ever.
"""

from __future__ import annotations

from workers.scheduling.policies.window import Window
from workers.scheduling.records import Limits

ROWS = 8
TIMEOUT_S = 0.1


def fixed(limits: Limits, rows: int = ROWS, timeout_s: float = TIMEOUT_S) -> Window:
    """Dynamic batching with a single preferred size and a long delay is just that."""
    return Window(limits, (rows,), timeout_s)
