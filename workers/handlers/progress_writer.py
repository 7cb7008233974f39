"""Writes progress of jobs to the store as it comes; what cannot be written is dropped."""

from __future__ import annotations

import time

from contract.errors import StoreUnavailable
from contract.job import Claim
from contract.log import Log
from contract.store.events import Events

log = Log("handlers")
# A store that is away must not hold up hooks, whose time is limited.
PAUSE_S = 5.0


class ProgressWriter:
    """Called from the threads that run hooks, before their jobs settle: progress comes first."""

    def __init__(self, events: Events) -> None:
        self._events = events
        # on the monotonic clock
        self._again_at_s = 0.0

    def write(self, claim: Claim, number: int, data: bytes) -> None:
        """Keep progress of a job; only clients that follow it miss what is dropped."""
        if time.monotonic() < self._again_at_s:
            return
        try:
            self._events.report(claim, number, data)
        except StoreUnavailable as error:
            self._again_at_s = time.monotonic() + PAUSE_S
            log.warning("progress_dropped", job=claim.job, reason=error)
