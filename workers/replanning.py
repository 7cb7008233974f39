"""Plans of functions in blocks made anew by what their runs took, off the path of any job."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from contract.log import Log
from fusion.blocks.body import BlockedGraph
from fusion.blocks.observed import Measured, Observed
from fusion.blocks.trials import Phase, Trials
from fusion.ir import Graph
from fusion.measurements import Measurements
from fusion.plan import row_bucket

log = Log("replanning")


class _Bodies(NamedTuple):
    """One function's graphs, each with its trials, and the rows that it ran with first."""

    architectures: list[str]
    trials: list[Trials]
    rows: dict[int, int]


class Replanning:
    """Thread-safe; plans are made on a thread of its own, one after another."""

    def __init__(self, measurements: Measurements) -> None:
        self._measurements = measurements
        self._pool = ThreadPoolExecutor(1, "plans")
        self._lock = threading.Lock()  # guards what is below
        self._bodies: dict[str, _Bodies] = {}
        self._next: dict[str, tuple[BlockedGraph, ...]] = {}

    def known(self, graph: Graph) -> dict[str, Measured]:
        """By cut, what runs of this graph have taken."""
        return self._measurements.blocks(graph.architecture)

    def began(self, key: str, graphs: Sequence[Graph], bodies: Sequence[BlockedGraph]) -> None:
        """A function runs in blocks from now on, as planned."""
        architectures = [graph.architecture for graph in graphs]
        with self._lock:
            self._bodies[key] = _Bodies(architectures, list(map(Trials, bodies)), {})
            self._next.pop(key, None)

    def note(self, key: str, number: int, rows: int, body: BlockedGraph, run: Observed) -> None:
        """A run of one of its graphs."""
        with self._lock:
            found = self._bodies.get(key)
            # runs with more rows take longer: of one graph those with as many as the first count
            if found is None or found.rows.setdefault(number, row_bucket(rows)) != row_bucket(rows):
                return
            is_due = found.trials[number].note(body, run)
        if is_due:
            self._pool.submit(partial(self._decide, key, found, number))

    def next(self, key: str) -> tuple[BlockedGraph, ...] | None:
        """Its graphs with a plan to go on with; None: as they are."""
        with self._lock:
            return self._next.get(key)

    def is_settled(self, key: str) -> bool:
        """Whether all of its plans have been measured."""
        with self._lock:
            its = self._bodies.get(key)
            return its is not None and all(t.phase is Phase.SETTLED for t in its.trials)

    def taken(self, key: str) -> None:
        """It goes on with what `next` said."""
        with self._lock:
            self._next.pop(key, None)

    def keep(self, keys: Collection[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._bodies = {key: its for key, its in self._bodies.items() if key in keys}
            self._next = {key: its for key, its in self._next.items() if key in keys}

    def wait(self) -> None:
        """Until what is due is decided."""
        self._pool.submit(int).result()

    def _decide(self, key: str, its: _Bodies, number: int) -> None:
        trials = its.trials[number]
        try:
            other = trials.decide()
        except Exception:  # the plan that there is still holds
            log.exception("not_planned_anew", function=key)
            return
        if trials.phase is Phase.SETTLED and trials.learned is not None:
            cut = trials.body.cut_key
            self._measurements.note_blocks(its.architectures[number], cut, trials.learned)
        log.info("planned_anew", function=key, phase=trials.phase.value, is_other=other is not None)
        with self._lock:
            if other is not None and self._bodies.get(key) is its:
                self._next[key] = tuple(each.body for each in its.trials)
