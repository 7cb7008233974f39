"""When a delivery is tried again: pure, time and chance are arguments."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import NamedTuple

# Of the Knative data plane: whatever else a receiver refuses, it refuses for good.
RETRIED = frozenset({404, 408, 409, 429})
MAX_BACKOFF_S = 600.0
# A receiver may ask for more time than the backoff, within this.
MAX_RETRY_AFTER_S = 3600.0
GONE = 410


class Attempt(NamedTuple):
    """How one attempt went."""

    # HTTP status, 0 where none came
    status: int = 0
    # what went wrong; "" where nothing did
    error: str = ""
    # seconds that the receiver asked to wait, or None
    retry_after_s: float | None = None
    # without a status: whether it may go better another time
    is_lasting: bool = False
    # the job that a function made of it
    job: str = ""
    # nothing was sent yet: it counts as no attempt, and is due again after `retry_after_s`
    is_put_off: bool = False


class Policy(NamedTuple):
    """How often, and after how long."""

    attempts: int
    backoff_s: float


def is_retryable(attempt: Attempt) -> bool:
    """Whether another attempt may succeed."""
    if attempt.status:
        return attempt.status in RETRIED or attempt.status >= 500
    return not attempt.is_lasting


def delay_s(policy: Policy, attempts: int, retry_after_s: float | None, chance: float) -> float:
    """Seconds until the next attempt, after so many; `chance` is from 0 to 1.

    Half of the backoff is certain and half by chance, so that many do not come back together.
    """
    # 2 ** 30 is beyond every bound
    backoff_s = min(policy.backoff_s * 2.0 ** min(attempts - 1, 30), MAX_BACKOFF_S)
    wait_s = backoff_s * (0.5 + 0.5 * chance)
    if retry_after_s is None:
        return wait_s
    return max(wait_s, min(retry_after_s, MAX_RETRY_AFTER_S))


def next_try_s(
    policy: Policy, attempts: int, attempt: Attempt, now_s: float, chance: float
) -> float | None:
    """When a failed delivery is tried again, Unix seconds; None where it is given up."""
    if attempts >= policy.attempts or not is_retryable(attempt):
        return None
    return now_s + delay_s(policy, attempts, attempt.retry_after_s, chance)


def parse_retry_after(header: str, now_s: float) -> float | None:
    """Seconds of a `Retry-After`, given as such or as a date; None for anything else."""
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return float(text)
    try:
        at_s = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, at_s - now_s)
