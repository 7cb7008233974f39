"""When a request is sent again: a rule that takes time and chance as arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from contract.errors import InvalidInput

# a pause that doubles more often than this has reached any bound
_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is sent, and how long it is paused between.

    Pauses double from `first_s` up to `most_s`; half of each is left to chance, so that clients
    that failed together do not come back together. None is begun that ends after `total_s`.
    """

    attempts: int = 6
    first_s: float = 0.2
    most_s: float = 5.0
    total_s: float = 60.0

    def __post_init__(self) -> None:
        """Raise InvalidInput for a number that makes no sense."""
        if self.attempts < 1:
            raise InvalidInput.of("retries.attempts", "at least 1", str(self.attempts))
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if not (value >= 0 and math.isfinite(value)):
                raise InvalidInput.of(f"retries.{field.name}", "seconds", str(value))

    def pause_s(
        self, attempt: int, elapsed_s: float, draw: float, after_s: float | None = None
    ) -> float | None:
        """Seconds until the next attempt, or None to give up.

        `attempt` counts from 1, `draw` is from 0 to 1; the platform asked for `after_s` (its
        Retry-After), which is kept even where it is longer than `most_s`.
        """
        if attempt >= self.attempts:
            return None
        backoff_s = min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, _DOUBLINGS))
        pause_s = backoff_s * (1 + draw) / 2
        if after_s is not None:
            pause_s = max(pause_s, after_s + draw * self.first_s)
        return pause_s if elapsed_s + pause_s <= self.total_s else None


# Each request is sent once.
NEVER = Retries(attempts=1)
