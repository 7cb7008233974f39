"""How long does it take to build the fused DAG of four functions, and to find a cached one?

On the way a worker takes (`Dags.prepare` and what comes before it), from objects that are cold:
  new    graphs decoded and checked, code generated for every architecture, the DAG built:
         functions that nobody has called yet; no bar
  known  the DAG built, of members made afresh: functions that have run in other groups, but not
         together, so that of their architectures the shapes are known
  found  members made, their key computed, the entry of the cache pinned and given back
Contents of weights are given by their keys; bringing weights in is no part of it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _cases import Case, groups_to_build, keys_of
from _report import Row, finish

from fusion.cache import DagCache
from fusion.codegen import Program
from fusion.dag import FusedDag
from fusion.ir import Graph
from fusion.members import DagKey, Member
from fusion.prefix import row_values
from fusion.specialise import specialised
from fusion.strategies.lanes import Lanes
from workers.dags import Dags, make_member

SMALL_BAR_MS, LARGE_BAR_MS, FOUND_BAR_MS = 10.0, 40.0, 0.1
CACHE_BYTES = 2**30
BUILDS, QUICK_BUILDS, WARM_BUILDS = 200, 5, 2
FINDS_PER_BUILD = 10


class Artifact(NamedTuple):
    """A function as it lies on disk, its weights aside."""

    graph: bytes
    weight_keys: tuple[str, ...]


def main() -> int:
    """Build and find, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few builds of each")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names have it")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    builds = QUICK_BUILDS if options.quick else BUILDS
    rows: list[Row] = []
    with Lanes(len(os.sched_getaffinity(0))) as lanes:
        for name, is_small, make in groups_to_build():
            if options.only in name:
                bar_ms = SMALL_BAR_MS if is_small else LARGE_BAR_MS
                rows += _measure(make(name), bar_ms, lanes, builds)
    return finish(rows, "Building and finding the fused DAG of four functions", options.json)


def _measure(case: Case, bar_ms: float, lanes: Lanes, builds: int) -> list[Row]:
    artifacts = [Artifact(made.graph.encode(), keys_of(made)) for made in case.exports]
    times_s: dict[str, list[float]] = {"new": [], "known": [], "found": []}

    def timed(what: str, act: Callable[[], list[Program]]) -> list[Program]:
        began_s = perf_counter()
        programs = act()
        times_s[what].append(perf_counter() - began_s)
        return programs

    for _ in range(WARM_BUILDS + builds):
        row_values.cache_clear()
        programs = timed("new", _Builder(artifacts, lanes).from_artifacts)
        builder = _Builder(artifacts, lanes)
        for what in ("known", *["found"] * FINDS_PER_BUILD):
            timed(what, lambda: builder.from_programs(programs))  # noqa: B023 -- called at once
    bars = {"known": bar_ms, "found": FOUND_BAR_MS}
    return [
        _row(f"{case.name}: {what}", its[WARM_BUILDS:], bars.get(what))
        for what, its in times_s.items()
    ]


class _Builder:
    """A worker's cache of DAGs, empty at first."""

    def __init__(self, artifacts: Sequence[Artifact], lanes: Lanes) -> None:
        self._artifacts = artifacts
        cache: DagCache[DagKey, FusedDag] = DagCache(CACHE_BYTES)
        self._dags = Dags(cache, torch.device("cpu"), lanes, generate_merged=_program)

    def from_artifacts(self) -> list[Program]:
        """Generate one program per architecture, and build."""
        graphs = [Graph.decode(artifact.graph) for artifact in self._artifacts]
        by_architecture: dict[str, Program] = {}
        for graph in graphs:
            if graph.architecture not in by_architecture:
                by_architecture[graph.architecture] = _program(graph)
        return self.from_programs([by_architecture[graph.architecture] for graph in graphs])

    def from_programs(self, programs: list[Program]) -> list[Program]:
        """Build, or find what is built."""
        self._dags.prepare([*map(_member, programs, self._artifacts)])
        return programs


def _program(graph: Graph, row_groups: tuple[int, ...] = ()) -> Program:
    return specialised(graph, "cpu", row_groups)


def _member(program: Program, artifact: Artifact) -> Member:
    return make_member(program, 1, artifact.weight_keys, is_alone=False)


def _row(name: str, times_s: Sequence[float], bar_ms: float | None) -> Row:
    tenths = quantiles(times_s, n=10)
    spread = f"(p10 {tenths[0] * 1e3:.3g}, p90 {tenths[-1] * 1e3:.3g}, {len(times_s)} times)"
    return Row(f"{name} {spread}", median(times_s) * 1e3, "ms", bar_ms, higher_is_better=False)


if __name__ == "__main__":
    sys.exit(main())
