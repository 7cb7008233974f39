"""What a group will cost, learned from what workers measured of earlier ones.

compute   quantiles of recent runs by function and row bucket, a line through them elsewhere
group     the sum of the members, times what was measured that they add to, or save, each other
swap      by bytes, worker and where the bytes come from
build     by members, where the worker does not have the fused DAG
"""

from __future__ import annotations

from workers.scheduling.costs.errors import Errors
from workers.scheduling.costs.functions import PRIOR_COMPUTE_S
from workers.scheduling.costs.interference import Members, members_of
from workers.scheduling.costs.model import Costs
from workers.scheduling.costs.transfers import DISK, HOST

__all__ = ["PRIOR_COMPUTE_S", "DISK", "HOST", "Costs", "Errors", "Members", "members_of"]
