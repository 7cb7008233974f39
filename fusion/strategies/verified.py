"""Code for several members at once that must first give what each gives by itself."""

from collections.abc import Callable, Sequence

from torch import Tensor

from fusion.numerics import all_close
from fusion.strategies.work import MEMBER_ERRORS, Outcome, Work, attempt_each


class Verified:
    """A strategy whose first run is compared with one member after another."""

    def __init__(self, run: Callable[[Sequence[Work]], list[list[Tensor]]]) -> None:
        self._run = run
        # unknown before the first run
        self._is_right: bool | None = None

    def __call__(self, works: Sequence[Work]) -> list[Outcome]:
        """Run all; apart, should they once have given other results together."""
        if self._is_right is False:
            return attempt_each(works)
        try:
            together = self._run(works)
        except MEMBER_ERRORS:  # the one that is at fault fails alone
            return attempt_each(works)
        if self._is_right:
            return [*together]
        apart = attempt_each(works)
        self._is_right = all(
            isinstance(outcome, list) and all_close(found, outcome)
            for found, outcome in zip(together, apart, strict=True)
        )
        return apart
