"""What becomes of a trigger after it has tried: it moves on, or stays where it is and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from contract.errors import FuseboxError, RequestError
from contract.store.jobs import AlreadyAccepted
from contract.store.link import Argument
from contract.store.triggers import Move
from contract.trigger import Kind, Trigger
from gateway.calls import Accepted, Result

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0
MAX_DETAIL_CHARS = 1_000


class Taken(NamedTuple):
    """How far a row of events came: each is a job, was passed over, or is where it stopped."""

    # of the events before the one that stopped it; "" for one that was passed over
    jobs: tuple[str, ...]
    # calls that it made
    fired: int = 0
    duplicates: int = 0
    skipped: int = 0
    # why the next one did not become a job
    error: FuseboxError | None = None


def taken(trigger: Trigger, results: Sequence[Result]) -> Taken:
    """The results of a row of calls, up to the first that stops the trigger."""
    jobs: list[str] = []
    counts: Counter[str] = Counter()
    error: FuseboxError | None = None
    for result in results:
        if isinstance(result, Accepted):
            counts["fired"] += 1
            jobs.append(result.spec.id)
        elif isinstance(result, AlreadyAccepted):
            counts["duplicates"] += 1
            jobs.append(result.job)
        elif isinstance(result, RequestError) and trigger.skips_bad:
            counts["skipped"] += 1
            jobs.append("")
        else:
            error = result
            break
    return Taken(tuple(jobs), error=error, **counts)


@dataclass
class Health:
    """Whether a trigger works, as the process that leads remembers it."""

    failures: int = 0
    retry_at_s: float = 0.0

    def after(
        self, trigger: Trigger, row: Taken, now_s: float, place: dict[str, Argument]
    ) -> tuple[Move, Counter[str]]:
        """The move and the counts of an attempt; remembers when to try again."""
        fields = dict(place)
        if last := next((job for job in reversed(row.jobs) if job), ""):
            fields |= {"last_job": last, "last_at_s": repr(now_s)}
        kind = str(trigger.kind)
        counts = Counter(
            {
                f"trigger_calls:{kind}": row.fired,
                f"trigger_duplicates:{kind}": row.duplicates,
                f"trigger_skipped:{kind}": row.skipped,
            }
        )
        if row.error is None:
            fields |= self._recovered()
        else:
            fields |= self._failed(row.error, now_s)
            counts[f"trigger_failures:{kind}"] += 1
        return Move(trigger, row.fired, row.skipped, fields), counts

    def _recovered(self) -> dict[str, Argument]:
        if not self.failures:
            return {}
        self.failures, self.retry_at_s = 0, 0.0
        return {"error": "", "failures": "", "retry_at_s": ""}

    def _failed(self, error: FuseboxError, now_s: float) -> dict[str, Argument]:
        self.failures += 1
        self.retry_at_s = now_s + backoff_s(error, self.failures)
        return {
            "error": error_record(error),
            "failures": self.failures,
            "retry_at_s": repr(self.retry_at_s),
        }


def error_record(error: FuseboxError) -> bytes:
    """An error as progress keeps it."""
    return orjson.dumps({"code": error.code, "detail": error.detail[:MAX_DETAIL_CHARS]})


def backoff_s(error: FuseboxError, failures: int) -> float:
    """When to try again: as the store says, or twice as late every time, up to MAX_BACKOFF_S."""
    if "retry_after_ms" in error.extensions:
        return float(error.extensions["retry_after_ms"]) / 1000
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16))


def is_of(trigger: Trigger, kind: Kind) -> bool:
    """Whether it is one of this kind that works."""
    return trigger.kind is kind and not trigger.is_paused
