"""What a group will cost, learned from what workers measured of earlier ones."""

from __future__ import annotations

from workers.scheduling.costs.model import PRIOR_COMPUTE_S, Costs

__all__ = ["PRIOR_COMPUTE_S", "Costs"]
