"""What became of every job, and the figures that follow from it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from enum import IntEnum
from math import log, nan
from typing import NamedTuple

import numpy as np


class Answer(IntEnum):
    """How a job ended."""

    # in time or late
    ANSWERED = 0
    # told early that it cannot be met, or that too many wait
    REFUSED = 1
    # its deadline passed
    EXPIRED = 2


class JobRecord(NamedTuple):
    """One job; seconds since the workload began."""

    function: str
    # when its client sent it
    accepted_s: float
    # when its group began to compute; nan where none did
    started_s: float
    # when its client had the answer
    ended_s: float
    outcome: Answer
    # number of its group; -1 where none ran it
    group: int
    rows: int = 1


class GroupRecord(NamedTuple):
    """One group that computed."""

    number: int
    worker: str
    started_s: float
    # making its fused DAG included
    ended_s: float
    # rows by function
    members: Mapping[str, int]
    predicted_s: float
    compute_s: float
    swap_s: float


class Summary(NamedTuple):
    """Figures of a window; of those jobs that were sent in it, unless it says otherwise."""

    # mean over functions of ln(throughput / (latency / SLO)); see `utility`
    utility: float
    # of all jobs: not answered within the SLO, for whatever reason
    violations: float
    # answered within their SLO, per second
    goodput: float
    # answered, per second
    throughput: float
    refused: float
    expired: float
    # of those answered
    p50_s: float
    p99_s: float


class Report:
    """Jobs in columns, for a day of a fleet has millions."""

    def __init__(self, slos_s: Mapping[str, float], timeouts_s: Mapping[str, float]) -> None:
        self.slos_s = dict(slos_s)
        self.timeouts_s = dict(timeouts_s)
        self.names = [*slos_s]
        self._index = {name: k for k, name in enumerate(self.names)}
        self._function, self._group, self._rows = array("i"), array("q"), array("i")
        self._accepted_s, self._started_s, self._ended_s = array("d"), array("d"), array("d")
        self._outcome = array("b")
        # only where they were asked for
        self.groups: list[GroupRecord] = []
        # by worker
        self.busy_s: dict[str, float] = {}
        # deciding, claiming and sending: the scheduler does one at a time
        self.scheduler_s = 0.0
        self.group_count = self.decisions = self.loads = self.loaded_bytes = self.builds = 0

    def __len__(self) -> int:
        return len(self._outcome)

    def add(self, job: JobRecord) -> None:
        """A job has ended."""
        self._function.append(self._index[job.function])
        self._accepted_s.append(job.accepted_s)
        self._started_s.append(job.started_s)
        self._ended_s.append(job.ended_s)
        self._outcome.append(job.outcome)
        self._group.append(job.group)
        self._rows.append(job.rows)

    @property
    def jobs(self) -> Iterator[JobRecord]:
        """Every job, in the order in which they ended."""
        for function, *times, outcome, group, rows in zip(
            self._function,
            self._accepted_s,
            self._started_s,
            self._ended_s,
            self._outcome,
            self._group,
            self._rows,
            strict=True,
        ):
            yield JobRecord(self.names[function], *times, Answer(outcome), group, rows)

    @property
    def until_s(self) -> float:
        """When the last client had its answer."""
        return max(self._ended_s, default=0.0)

    def count(self, outcome: Answer) -> int:
        """Jobs that ended so."""
        return self._outcome.count(outcome)

    def latencies_s(self, function: str | None = None, from_s: float = 0.0) -> np.ndarray:
        """Of answered jobs that were sent from then on, ascending."""
        chosen = _column(self._outcome) == Answer.ANSWERED
        chosen &= _column(self._accepted_s) >= from_s
        if function is not None:
            chosen &= _column(self._function) == self._index[function]
        found = (_column(self._ended_s) - _column(self._accepted_s))[chosen]
        return np.sort(found)

    def summary(self, from_s: float, until_s: float, names: list[str] | None = None) -> Summary:
        """Figures of the jobs sent in [from_s, until_s), of these functions or all."""
        sent = _column(self._accepted_s)
        chosen = (sent >= from_s) & (sent < until_s)
        if names is not None:
            chosen &= np.isin(_column(self._function), [self._index[name] for name in names])
        function, outcome = _column(self._function)[chosen], _column(self._outcome)[chosen]
        latency_s = (_column(self._ended_s) - sent)[chosen]
        answered = outcome == Answer.ANSWERED
        slo_s = np.array([self.slos_s[name] for name in self.names])[function]
        good = answered & (latency_s <= slo_s)
        count, seconds = len(function), until_s - from_s
        utilities = [
            self.utility(name, latency_s[answered & (function == self._index[name])], seconds)
            for name in (names or self.names)
        ]
        p50_s, p99_s = _quantiles(latency_s[answered])
        return Summary(
            float(np.mean(utilities)),
            1 - _share(good, count),
            float(good.sum()) / seconds,
            float(answered.sum()) / seconds,
            _share(outcome == Answer.REFUSED, count),
            _share(outcome == Answer.EXPIRED, count),
            p50_s,
            p99_s,
        )

    def utility(self, name: str, latencies_s: np.ndarray, seconds: float) -> float:
        """BCEdge's utility of one function: ln(throughput / (latency / SLO)).

        Throughput is its answered jobs per second, late ones included; latency their mean. A
        function without any counts as if one had been answered at its timeout.
        """
        if len(latencies_s) == 0:
            latencies_s = np.array([self.timeouts_s[name]])
        throughput = len(latencies_s) / seconds
        return log(throughput / (float(np.mean(latencies_s)) / self.slos_s[name]))


def _column(values: array) -> np.ndarray:  # type: ignore[type-arg]
    return np.frombuffer(values, dtype=values.typecode) if values else np.empty(0, values.typecode)


def _share(chosen: np.ndarray, count: int) -> float:
    return float(chosen.sum()) / count if count else 0.0


def _quantiles(latencies_s: np.ndarray) -> tuple[float, float]:
    if len(latencies_s) == 0:
        return nan, nan
    p50_s, p99_s = np.quantile(latencies_s, [0.5, 0.99])
    return float(p50_s), float(p99_s)
