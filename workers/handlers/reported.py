"""Progress of a batch as it comes from a host, which bounds it but is not trusted to."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from contract.events import MAX_PROGRESS, MAX_PROGRESS_TOTAL_BYTES
from contract.job import Claim, JobId
from workers.handlers.process import HostEnded

# (claim, number from 1, JSON in one line)
WriteProgress = Callable[[Claim, int, bytes], None]


def drop(_claim: Claim, _number: int, _data: bytes) -> None:
    """Nobody follows."""


class Reported:
    """How much each job of a batch has reported, and where it is written."""

    def __init__(self, write: WriteProgress) -> None:
        self._write = write
        self._so_far: dict[JobId, tuple[int, int]] = {}

    def take(self, claim: Claim, data: bytes) -> None:
        """Write one report; raises HostEnded for what a host may not send."""
        count, size_bytes = self._so_far.get(claim.job, (0, 0))
        count, size_bytes = count + 1, size_bytes + len(data)
        self._so_far[claim.job] = count, size_bytes
        if count > MAX_PROGRESS or size_bytes > MAX_PROGRESS_TOTAL_BYTES:
            raise HostEnded("sent more progress than it may")
        try:
            line = orjson.dumps(orjson.loads(data))
        except orjson.JSONDecodeError as error:
            raise HostEnded("sent progress that is no JSON") from error
        self._write(claim, count, line)
