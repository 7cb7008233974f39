"""How long things take, as recorded of a running platform; drawn from with a seeded generator."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from contract.function import FunctionRef
from workers.scheduling.records import FunctionView

from .pace import Pace, Slowness

# Samples of one thing, seconds; ascending where a pace is to choose among them.
Samples = Sequence[float]


@dataclass(frozen=True)
class FunctionProfile:
    """One function: what the policy knows of it, and what was measured."""

    # rows of a run of this function alone -> how long it computed
    compute_s: Mapping[int, Samples]
    slo_s: float
    timeout_s: float
    weight_bytes: int = 1 << 20
    # of each row of a run
    activation_bytes: int = 0
    max_batch: int = 16
    is_batchable: bool = True
    pre_s: Samples = ()
    post_s: Samples = ()

    def view(self) -> FunctionView:
        """As the policy sees it."""
        return FunctionView(
            self.weight_bytes,
            lambda rows: rows * self.activation_bytes,
            self.max_batch,
            self.is_batchable,
            bool(self.pre_s or self.post_s),
        )


@dataclass(frozen=True)
class Delays:
    """The way of a job besides hooks, weights and computing; samples of seconds each."""

    # from the client until the scheduler has it
    accept_s: Samples = (0.0,)
    # what the scheduler does, one thing after another: all its process does for a group, a move
    # that claims and sends several of them, each one's part of that
    decide_s: Samples = (0.0,)
    claim_s: Samples = (0.0,)
    message_s: Samples = (0.0,)
    # from there until the worker has fetched the group's inputs
    send_s: Samples = (0.0,)
    # from the end of computing until the outcomes are stored and the scheduler hears of it
    settle_s: Samples = (0.0,)
    # from there until the client has its answer; the whole way of a refusal back
    answer_s: Samples = (0.0,)


@dataclass(frozen=True)
class Bandwidth:
    """Bringing weights in, by where they are."""

    host_bytes_per_s: float = 4e9
    disk_bytes_per_s: float = 1e9
    # each load, besides its bytes
    load_s: float = 0.0


@dataclass(frozen=True)
class Profile:
    """Functions by name, and what they share."""

    functions: Mapping[str, FunctionProfile]
    delays: Delays = field(default_factory=Delays)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    # members of a group -> its time over the sum of their times alone, as measured under load; of
    # one member, the times alone where it is missing
    together: Mapping[int, Samples] = field(default_factory=dict)
    # members of a group -> what making its fused DAG took
    build_s: Mapping[int, Samples] = field(default_factory=dict)
    # how long slow moments of the machine last
    pace: Pace = field(default_factory=Pace)
    # of every run, for a machine that others use more than when it was recorded
    stretch: float = 1.0

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def slower(self, compute: float, way: float) -> Profile:
        """All runs, and the way to them and back, take so many times as long."""
        delays = {
            name: tuple(way * value for value in samples)
            for name, samples in asdict(self.delays).items()
        }
        return replace(self, stretch=compute * self.stretch, delays=Delays(**delays))

    @classmethod
    def read(cls, path: Path) -> Profile:
        """The profile of `write`; raises KeyError or TypeError naming a field that is not right."""
        return cls.from_json(json.loads(path.read_text()))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Profile:
        """The profile of plain JSON values."""
        functions = {
            name: FunctionProfile(**its | {"compute_s": _by_number(its["compute_s"])})
            for name, its in plain["functions"].items()
        }
        return cls(
            functions,
            Delays(**plain["delays"]),
            Bandwidth(**plain["bandwidth"]),
            _by_number(plain["together"]),
            _by_number(plain["build_s"]),
            Pace(**plain.get("pace", {})),
            plain.get("stretch", 1.0),
        )


def _by_number(plain: Mapping[str, Samples]) -> dict[int, Samples]:
    return {int(key): tuple(sorted(samples)) for key, samples in plain.items()}


class _Times(NamedTuple):
    """Of one function and number of rows."""

    mean_s: float
    # what was measured over its mean
    ratios: Samples


class Draw:
    """Draws times from a profile; whoever draws in the same order with the same seed gets the same.

    Where a number of rows was not measured, the mean lies on the line through its neighbours, and
    the spread is that of the nearest one.
    """

    def __init__(self, profile: Profile, random: Random) -> None:
        self._profile = profile
        # to be told the time, where moments differ
        self.slowness = Slowness(profile.pace, random) if profile.pace.share else None
        self._rank = self.slowness.rank if self.slowness else random.random
        self._times: dict[tuple[str, int], _Times] = {}

    def one(self, samples: Samples) -> float:
        """One of the samples; 0 where there are none."""
        if len(samples) < 2:
            return samples[0] if samples else 0.0
        return samples[int(self._rank() * len(samples))]

    def mean_s(self, function: str, rows: int) -> float:
        """Mean time of a run of this function alone."""
        return self._of(function, rows).mean_s

    def compute_s(self, members: Mapping[FunctionRef, int]) -> float:
        """The time of a group, rows by function."""
        count, stretch = len(members), self._profile.stretch
        if count == 1 and 1 not in self._profile.together:
            [(ref, rows)] = members.items()
            times = self._of(ref.name, rows)
            return stretch * times.mean_s * self.one(times.ratios)
        alone_s = sum(self._of(ref.name, rows).mean_s for ref, rows in members.items())
        return stretch * alone_s * self.one(nearest(self._profile.together, count) or (1.0,))

    def build_s(self, members: int) -> float:
        """The time to make a fused DAG of so many members."""
        return self.one(nearest(self._profile.build_s, members))

    def _of(self, function: str, rows: int) -> _Times:
        found = self._times.get((function, rows))
        if found is None:
            measured = self._profile.functions[function].compute_s
            near = nearest(measured, rows)
            mean_s = fmean(near)
            ratios = tuple(value / mean_s for value in near) if mean_s else (0.0,)
            found = _Times(line_through(measured)(rows), ratios)
            self._times[function, rows] = found
        return found


def nearest(by_number: Mapping[int, Samples], number: int) -> Samples:
    """The samples of the nearest number that has some; none where none has."""
    least = min(by_number, key=lambda known: (abs(known - number), known), default=None)
    return () if least is None else by_number[least]


def line_through(measured: Mapping[int, Samples]) -> Callable[[int], float]:
    """Mean seconds by rows: straight between what was measured, and on beyond the last two."""
    points = sorted((rows, fmean(samples)) for rows, samples in measured.items())
    if len(points) == 1:
        [(rows, mean_s)] = points
        return lambda wanted: mean_s * wanted / rows
    numbers = [rows for rows, _ in points]

    def at(wanted: int) -> float:
        k = min(max(bisect_left(numbers, wanted), 1), len(points) - 1)
        (low, low_s), (high, high_s) = points[k - 1], points[k]
        mean_s = low_s + (high_s - low_s) * (wanted - low) / (high - low)
        # a slope that noise turned down must not lead below what any row takes
        return max(mean_s, min(low_s, high_s) * min(1.0, wanted / low))

    return at
