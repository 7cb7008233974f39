"""The ways to run one architecture on this device, and which is fastest at how many rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import torch
from torch import Tensor

from fusion.allocation import is_out_of_memory
from fusion.numerics import all_close
from fusion.strategies.choice import Choice

Run = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
Measured = Mapping[str, float]  # median seconds by name
# rows, weights and inputs to the outputs of a captured run; None where there is none for them
Replay = Callable[[int, Sequence[Tensor], Sequence[Tensor]], list[Tensor] | None]

# What generated code raises on bad input: torch's errors derive from RuntimeError.
MEMBER_ERRORS = (RuntimeError, IndexError, TypeError, ValueError, OverflowError, ArithmeticError)

GENERATED = "generated"
ONEDNN = "onednn"
COMPILED = "compiled"
GRAPH = "graph"


# Tiers whose runs keep Python's lock until they end, so that no two of them run side by side:
# torch's loader of compiled packages does not give it up.
ALONE = frozenset({COMPILED})


class _Quiet:
    """Runs of one tier between two looks at the others: nothing is measured."""

    __slots__ = ("left", "name", "run")

    def __init__(self, name: str, run: Run, left: int) -> None:
        self.name = name
        self.run = run
        self.left = left


class Tiers:
    """`generated` is always there and is right by definition; others are compared with it once.

    A tier that gives other values, or fails where generated code does not, is dropped for good.
    Measured by one thread at a time; any thread may add one or run the fastest.
    """

    def __init__(self, generated: Run) -> None:
        self._generated = generated
        self._lock = threading.Lock()  # guards changes of what is below
        self._runs: dict[str, Run] = {GENERATED: generated}
        self._unproven: set[str] = set()
        self._choices: dict[int, Choice] = {}
        self._known: dict[int, Measured] = {}
        self._dropped: dict[str, str] = {}
        # by rows; what changes tiers replaces the dict
        self._quiet: dict[int, _Quiet] = {}
        # captured runs come before all tiers: they were compared and measured when they were made
        self._replay: Replay | None = None
        self._captured: dict[int, Measured] = {}
        # by rows: the fastest of those that let others run; as above
        self._beside: dict[int, str] = {}
        # of any tier; a few may be missed where lanes count at once
        self.runs = 0
        # of the set of tiers and of what is known of them
        self.version = 0
        # the tier of the latest run; lanes that run at once may mix theirs up
        self.ran = GENERATED

    @property
    def names(self) -> tuple[str, ...]:
        """What there is."""
        return tuple(self._runs)

    @property
    def dropped(self) -> dict[str, str]:
        """Tiers that were given up, and why."""
        return dict(self._dropped)

    def add(self, name: str, run: Run) -> None:
        """Another way to run; from now on it has its trials."""
        with self._lock:
            self._runs = {**self._runs, name: run}
            self._unproven.add(name)
            self._remember()

    def replay_by(self, replay: Replay, rows: int, measured: Measured) -> None:
        """Ask `replay` first from now on; `measured` is what a captured run of `rows` took."""
        with self._lock:
            self._replay = replay
            if rows not in self._captured:  # groups measure their ways anew
                self.version += 1
            self._captured = {**self._captured, rows: measured}

    def is_proven(self, name: str) -> bool:
        """Whether this tier has given the values of generated code."""
        return name in self._runs and name not in self._unproven

    def know(self, measured: Mapping[int, Measured]) -> None:
        """What earlier runs of the platform measured on this device, by rows."""
        with self._lock:
            self._known = dict(measured)
            self._choices = {}
            self._quiet = {}
            self._beside = {}
            self.version += 1

    def measured(self) -> dict[int, Measured]:
        """Median seconds by rows and tier."""
        with self._lock:
            now: dict[int, Measured] = {
                rows: choice.measured for rows, choice in self._choices.items()
            }
            now.update(self._captured)
            return {**self._known, **{rows: found for rows, found in now.items() if found}}

    def is_settled(self, rows: int) -> bool:
        """Whether every tier has had its trials at these rows."""
        return len(self._runs) == 1 or self._choice(rows).is_settled

    def best(self, rows: int) -> str:
        """The fastest tier at these rows, as far as is known."""
        return GENERATED if len(self._runs) == 1 else self._choice(rows).best

    def fastest(self, rows: int) -> Run:
        """The code of the fastest tier, to be measured by itself."""
        return self._runs[self.best(rows)]

    def run(self, rows: int, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the tier whose turn it is, and measure it now and then."""
        self.runs += 1
        if self._replay is not None:
            replayed = self._replay(rows, weights, inputs)
            if replayed is not None:
                self.ran = GRAPH
                return replayed
        quiet = self._quiet.get(rows)
        if quiet is None or not quiet.left:
            return self._run_measured(rows, weights, inputs)
        quiet.left -= 1
        self.ran = quiet.name
        try:
            return quiet.run(weights, inputs)
        except MEMBER_ERRORS as error:
            return self._instead(quiet.name, error, weights, inputs)

    def _run_measured(
        self, rows: int, weights: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        choice, runs = self._choice(rows), self._runs
        name = choice.name()
        began_s = perf_counter()
        outputs = self._call(name, weights, inputs)
        synchronize(inputs[0])
        choice.record(name, perf_counter() - began_s)
        self._beside.pop(rows, None)
        best = choice.best
        if choice.is_settled and best not in self._unproven:
            with self._lock:
                if self._runs is runs:  # else this choice is no longer the one
                    self._quiet[rows] = _Quiet(best, runs[best], choice.take_quiet())
        return outputs

    def run_beside(
        self, rows: int, weights: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Run the fastest tier of those that let others run beside it: nothing is measured."""
        self.runs += 1
        name = self._beside.get(rows) or self._find_beside(rows)
        return self._call(name, weights, inputs)

    def _find_beside(self, rows: int) -> str:
        measured = self._choice(rows).measured
        others = [name for name in measured if name not in ALONE]
        name = min(others, key=measured.__getitem__, default=GENERATED)
        self._beside[rows] = name
        return name

    def _choice(self, rows: int) -> Choice:
        choice = self._choices.get(rows)
        if choice is None:
            with self._lock:
                choice = Choice(tuple(self._runs), self._known.get(rows, {}))
                self._choices[rows] = choice
        return choice

    def _call(self, name: str, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        self.ran = name
        run = self._runs.get(name, self._generated)  # dropped meanwhile by another thread
        if run is self._generated:
            return run(weights, inputs)
        try:
            outputs = run(weights, inputs)
        except MEMBER_ERRORS as error:
            return self._instead(name, error, weights, inputs)
        if name in self._unproven:
            expected = self._generated(weights, inputs)
            if not all_close(outputs, expected):
                self._drop(name, "other values than generated code")
                return expected
            self._unproven.discard(name)
        return outputs

    def _instead(
        self, name: str, error: Exception, weights: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Generated code after another tier has failed; raises where it is the job's fault.

        A tier that lacked memory stays: with fewer rows it may not.
        """
        if name == GENERATED:
            raise error
        expected = self._generated(weights, inputs)
        if not is_out_of_memory(error):
            self._drop(name, f"{type(error).__name__}: {error}")
        return expected

    def _drop(self, name: str, why: str) -> None:
        with self._lock:
            self._runs = {kept: run for kept, run in self._runs.items() if kept != name}
            self._dropped[name] = why
            self._remember()

    def _remember(self) -> None:
        """Choices begin anew with what they have measured of the tiers that there are."""
        for rows, choice in self._choices.items():
            self._known[rows] = choice.measured
        self._known = {
            rows: {name: s for name, s in known.items() if name in self._runs}
            for rows, known in self._known.items()
        }
        self._choices = {}
        self._quiet = {}
        self._beside = {}
        self.version += 1


def synchronize(x: Tensor) -> None:
    """Wait for the device: without it only the launch of kernels would be measured."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
