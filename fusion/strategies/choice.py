"""Which strategy is fastest here? Try each in turn, keep to the best, look again now and then."""

from collections import deque
from collections.abc import Sequence
from statistics import median

WARM_RUNS = 1  # of each strategy, not counted: threads wake, caches fill
TRIAL_RUNS = 5  # of each strategy, counted
MARGIN = 0.95  # the first strategy is left only for one clearly faster
# Another strategy runs once in so many runs: load on the machine changes which is fastest. At a
# factor of 1.5 between them this costs 1 %.
LOOK_EVERY = 50


class Choice:
    """The first strategy is the default. Pure: times come in, names go out."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._latest_s = {name: deque[float](maxlen=TRIAL_RUNS) for name in names}
        self._runs = dict.fromkeys(names, 0)
        self._since_look = 0
        self._best = self._names[0]
        self._is_settled = not self.is_open

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose, and so to record."""
        return len(self._names) > 1

    @property
    def is_settled(self) -> bool:
        """Whether every strategy has had its trials, or there is but one."""
        return self._is_settled

    @property
    def measured(self) -> dict[str, float]:
        """Median seconds of the latest runs of each strategy that has been measured."""
        return {name: median(times) for name, times in self._latest_s.items() if times}

    def _fastest(self) -> str:
        default = self._names[0]
        measured = self.measured
        fastest = min(measured, key=measured.__getitem__, default=default)
        if fastest == default or default not in measured:
            return default
        return fastest if measured[fastest] < MARGIN * measured[default] else default

    def name(self) -> str:
        """The strategy of the next run."""
        if not self._is_settled:
            return min(self._names, key=self._runs.__getitem__)
        if self.is_open and self._since_look >= LOOK_EVERY:
            others = [name for name in self._names if name != self._best]
            return min(others, key=self._runs.__getitem__)
        return self._best

    def record(self, name: str, seconds: float) -> None:
        """A run took this long. Between looks times are not kept: medians cost microseconds."""
        is_quiet = self._is_settled and self._since_look < LOOK_EVERY - TRIAL_RUNS
        self._since_look = 0 if self._since_look >= LOOK_EVERY else self._since_look + 1
        if is_quiet:
            return
        self._runs[name] += 1
        if self._runs[name] > WARM_RUNS:
            self._latest_s[name].append(seconds)
            self._best = self._fastest()
        self._is_settled = min(self._runs.values()) >= WARM_RUNS + TRIAL_RUNS
