"""How fast the scheduler decides and how functions were served of late, for people and metrics."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from contract.store.scheduling import DECISION_BOUNDS_S, Answers, Decisions, SchedulingNow
from contract.utility import Served

# decisions that quantiles are of
KEPT = 1_000
# seconds that `Served` is of
WINDOW_S = 10.0
# between two moments of the window
PUBLISH_EVERY_S = 1.0

Read = Callable[[Iterable[str]], Mapping[str, Answers]]


class DecisionTimes:
    """How long the policy took, as a histogram and as quantiles of the last calls."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._buckets = [0] * (len(DECISION_BOUNDS_S) + 1)
        self._last: deque[float] = deque(maxlen=KEPT)
        self._seconds = 0.0
        self._dispatches = 0

    def note(self, seconds: float, dispatches: int) -> None:
        """The policy was asked."""
        self._buckets[bisect.bisect_left(DECISION_BOUNDS_S, seconds)] += 1
        self._last.append(seconds)
        self._seconds += seconds
        self._dispatches += dispatches

    def now(self) -> Decisions:
        """All calls so far."""
        last = sorted(self._last)
        return Decisions(
            self._policy,
            sum(self._buckets),
            self._dispatches,
            self._seconds,
            list(self._buckets),
            last[len(last) // 2] if last else None,
            last[len(last) * 99 // 100] if last else None,
        )


class _Moment(NamedTuple):
    at_s: float
    answers: dict[str, Answers]


class Window:
    """What functions answered within the last WINDOW_S, from counters that only grow."""

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque()

    def note(self, now_s: float, answers: Mapping[str, Answers]) -> None:
        """The counters now, of all functions that may have answered since the last time."""
        for name, counted in answers.items():
            if name not in self._known or counted.answered < self._known[name].answered:
                # seen for the first time, or removed and deployed anew: counts from here on
                for moment in self._moments:
                    moment.answers[name] = counted
        self._moments.append(_Moment(now_s, {**self._known, **answers}))
        while len(self._moments) > 2 and now_s - self._moments[1].at_s >= WINDOW_S:
            self._moments.popleft()

    def forget(self, names: Iterable[str]) -> None:
        """Functions that are no more."""
        for name in names:
            for moment in self._moments:
                moment.answers.pop(name, None)

    @property
    def names(self) -> set[str]:
        """Functions it knows the counters of."""
        return set(self._known)

    def served(self) -> dict[str, Served]:
        """Of those that have answered in the window."""
        if not self._moments:
            return {}
        first, last = self._moments[0], self._moments[-1]
        found = {}
        for name, now in last.answers.items():
            then = first.answers[name]
            if now.answered > then.answered:
                found[name] = Served(
                    last.at_s - first.at_s,
                    now.answered - then.answered,
                    now.late - then.late,
                    now.latency_s - then.latency_s,
                )
        return found

    @property
    def _known(self) -> dict[str, Answers]:
        return self._moments[-1].answers if self._moments else {}


class Measures:
    """What the active scheduler publishes; times are of the monotonic clock."""

    def __init__(self, policy: str) -> None:
        self.decisions = DecisionTimes(policy)
        self._window = Window()
        # jobs settled by function, when it last had settled another
        self._settled: dict[str, tuple[int, float]] = {}
        self._next_at_s = 0.0

    def now(self, settled: Mapping[str, int], read: Read, now_s: float) -> SchedulingNow | None:
        """What is to be published; None before it is time again.

        `settled`: jobs of ended groups ever, by function; `read` gives counters by name.
        """
        if now_s < self._next_at_s:
            return None
        self._next_at_s = now_s + PUBLISH_EVERY_S
        self._window.forget(self._window.names - settled.keys())
        self._window.note(now_s, read(self._busy(settled, now_s)))
        return SchedulingNow(self.decisions.now(), self._window.served())

    def _busy(self, settled: Mapping[str, int], now_s: float) -> list[str]:
        """Functions that may have answered lately; of the others the counters stand still."""
        for name, count in settled.items():
            if self._settled.get(name, (0, 0.0))[0] != count:
                self._settled[name] = count, now_s
        for name in self._settled.keys() - settled.keys():
            del self._settled[name]
        # a group's slow functions settle after it
        return [n for n, (_, at_s) in self._settled.items() if n and now_s - at_s < WINDOW_S]
