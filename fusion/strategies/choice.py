"""Which way is fastest here? Try each in turn, keep to the best, look again now and then."""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median

WARM_RUNS = 1  # of each way, not counted: threads wake, caches fill
TRIAL_RUNS = 5  # of each way, counted
MARGIN = 0.95  # the first way is left only for one clearly faster
# Another way runs once in so many runs: load on the machine changes which is fastest. One that is
# much slower runs more rarely, so that looking at it costs no more than this share of all time.
LOOK_EVERY = 50
LOOK_COST = 0.02


class Choice:
    """The first way is the default. Pure: times come in, names go out.

    `known` are seconds that were measured before: those ways need no trials.
    """

    def __init__(self, names: Sequence[str], known: Mapping[str, float] | None = None) -> None:
        self._names = tuple(names)
        self._begin(known or {})

    def _begin(self, known: Mapping[str, float]) -> None:
        self._latest_s = {name: deque[float](maxlen=TRIAL_RUNS) for name in self._names}
        self._trials = dict.fromkeys(self._names, 0)
        for name in self._names:
            if name in known:
                self._latest_s[name].append(known[name])
                self._trials[name] = WARM_RUNS + TRIAL_RUNS
        self._runs = 0
        self._look_at: dict[str, int] = {}  # by way: at which run
        self._next_look = 0
        self._conclude()

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose, and so to record."""
        return len(self._names) > 1

    @property
    def is_settled(self) -> bool:
        """Whether every way has had its trials, or there is but one."""
        return self._is_settled

    @property
    def measured(self) -> dict[str, float]:
        """Median seconds of the latest runs of each way that has been measured."""
        return {name: median(times) for name, times in self._latest_s.items() if times}

    @property
    def best(self) -> str:
        """The fastest so far, by some margin, or the default."""
        return self._best

    def name(self) -> str:
        """The way of the next run."""
        if not self._is_settled:
            return min(self._names, key=self._trials.__getitem__)
        if self._look_at and self._runs >= self._next_look:
            return min(self._look_at, key=self._look_at.__getitem__)
        return self._best

    def record(self, name: str, seconds: float) -> None:
        """A run took this long. Between looks times are not kept: medians cost microseconds."""
        self._runs += 1
        if self._is_settled and self._runs <= self._next_look - TRIAL_RUNS:
            return
        self._trials[name] += 1
        if self._trials[name] > WARM_RUNS:
            self._latest_s[name].append(seconds)
        self._look_at.pop(name, None)
        self._conclude()

    def take_quiet(self) -> int:
        """How many runs of the best need not be recorded: they count as run from now on."""
        if not self._is_settled:
            return 0
        quiet = max(0, self._next_look - TRIAL_RUNS - self._runs) if self._look_at else LOOK_EVERY
        self._runs += quiet
        return quiet

    def restart(self) -> None:
        """What was measured is not worth anything any more: every way has its trials again."""
        if self.is_open and any(self._trials.values()):
            self._begin({})

    def _conclude(self) -> None:
        self._best = self._fastest()
        self._is_settled = len(self._names) == 1 or all(
            trials >= WARM_RUNS + TRIAL_RUNS for trials in self._trials.values()
        )
        if not self._is_settled:
            return
        self._look_at.pop(self._best, None)
        measured = self.measured
        for name in self._names:
            if name != self._best and name not in self._look_at:
                loss = measured[name] / max(measured[self._best], 1e-9) - 1
                self._look_at[name] = self._runs + max(LOOK_EVERY, int(loss / LOOK_COST))
        self._next_look = min(self._look_at.values(), default=0)

    def _fastest(self) -> str:
        default = self._names[0]
        measured = self.measured
        fastest = min(measured, key=measured.__getitem__, default=default)
        if fastest == default or default not in measured:
            return default
        return fastest if measured[fastest] < MARGIN * measured[default] else default
