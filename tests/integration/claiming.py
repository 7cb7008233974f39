"""One group claimed, as the scheduler claims several."""

from __future__ import annotations

from collections.abc import Sequence

from contract.job import Claim, JobId
from contract.store.queue import PlannedGroup, Queue


def claim_group(
    queue: Queue, token: str, worker: str, group: str, lease_end_s: float, jobs: Sequence[JobId]
) -> list[Claim] | None:
    """Its jobs that were still queued; None when another scheduler is the active one."""
    found = queue.claim_all(token, lease_end_s, [PlannedGroup(worker, group, jobs)])
    return None if found is None else found[0]
