"""Events of a job: what its caller may be told while it goes on, each under an id to resume from.

Only progress is stored as it comes. That a job was queued, started and ended follows from its
record, so that following a job costs nothing to jobs that nobody follows. Ids are made of the
job's fence, which grows with every claim, and a number: the same for whoever asks, and ascending.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from contract.errors import InvalidInput
from contract.job import Job

# of one attempt; what a generator may yield before its result
MAX_PROGRESS = 1_000
MAX_PROGRESS_BYTES, MAX_PROGRESS_TOTAL_BYTES = 65_536, 2**20
# numbers of events that come after all progress of an attempt: queued again, ended
AGAIN, DONE = 10**9, 10**9 + 1
_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,10})")


class EventId(NamedTuple):
    """Where an event stands among those of its job."""

    # of the claim it belongs to; 0 before the first
    fence: int
    number: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """The id of `str`; raises InvalidInput."""
        match = _ID.fullmatch(text)
        if match is None:
            expected = "an id of this job's events, such as 1-3"
            raise InvalidInput.of("Last-Event-ID", expected, repr(text[:100]))
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.fence}-{self.number}"


class Progress(NamedTuple):
    """What a postprocess yielded before its result."""

    id: EventId
    # JSON in one line
    data: bytes


class Followed(NamedTuple):
    """A job with its fence and the progress after some event."""

    job: Job
    fence: int
    progress: list[Progress]
