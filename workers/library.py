"""Artifacts as this worker has read them: graphs, generated programs, weights indexes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from contract.function import GRAPH, WEIGHTS, Function
from fusion.codegen import Program
from fusion.errors import GraphError
from fusion.index_ranges import IndexRange, index_ranges
from fusion.inspection import check_fit
from fusion.ir import Graph
from fusion.measurements import Measurements
from fusion.slots import SlotRequest
from fusion.specialise import specialised
from fusion.weights import WeightsIndex, read_index

# A graph is some hundred kilobytes of records; this many are kept.
KEPT = 512
T = TypeVar("T")


class Loaded(NamedTuple):
    """What it takes to run a function, its weights aside."""

    graph: Graph
    # of the architecture: shared with other functions, so names are to be read from `graph`
    program: Program
    # content hash per weight, in the graph's order
    weight_keys: tuple[str, ...]
    slot: SlotRequest
    # of the inputs that are indices
    ranges: tuple[IndexRange, ...]


class _Read(NamedTuple):
    """An artifact's files."""

    graph: Graph
    weights: WeightsIndex
    ranges: tuple[IndexRange, ...]


class Library:
    """Reads each artifact once; generates code once per architecture. Thread-safe."""

    def __init__(self, artifacts: Path, device_kind: str, measurements: Measurements) -> None:
        self._artifacts = artifacts
        self._device_kind = device_kind
        self._measurements = measurements
        self._lock = threading.Lock()
        self._graphs: OrderedDict[str, _Read] = OrderedDict()
        self._programs: OrderedDict[str, Program] = OrderedDict()
        # by slot key: digest, bytes of the weights file
        self._files: dict[str, tuple[str, int]] = {}

    def get(self, function: Function) -> Loaded:
        """The function's artifact; GraphError, WeightsError or OSError say that it is broken."""
        folder = self._artifacts / function.digest
        # two threads may read the same artifact at once: cheaper than holding the lock meanwhile
        read = self._kept(self._graphs, function.digest) or _read(folder)
        graph, index, ranges = read
        if graph.architecture != function.manifest.architecture:
            raise GraphError("architecture", "differs from the manifest's")
        program = self._kept(self._programs, graph.architecture) or self.program(graph)
        with self._lock:
            _keep(self._graphs, function.digest, read)
            # another thread may have been first: tiers are found for one program
            program = self._programs.setdefault(graph.architecture, program)
            _keep(self._programs, graph.architecture, program)
            self._files.pop(str(function.ref), None)  # the last asked for is the last in order
            self._files[str(function.ref)] = (function.digest, index.file_bytes)
        keep_alive_s = function.manifest.keep_alive_s
        request = SlotRequest(str(function.ref), folder / WEIGHTS, index, keep_alive_s)
        hashes = {entry.name: entry.sha256 for entry in index.entries}
        weight_keys = tuple(hashes[spec.name] for spec in graph.weights)
        return Loaded(graph, program, weight_keys, request, ranges)

    def programs(self) -> list[Program]:
        """Of every architecture that is kept."""
        with self._lock:
            return list(self._programs.values())

    def newest(self, count: int) -> list[tuple[str, Program]]:
        """Functions by slot key, and their programs; the last asked for."""
        with self._lock:
            found = []
            for key, (digest, _) in [*self._files.items()][-count:]:
                read = self._graphs.get(digest)
                program = self._programs.get(read.graph.architecture) if read else None
                if program is not None:
                    found.append((key, program))
            return found

    def file_bytes(self, keys: Iterable[str]) -> dict[str, int]:
        """Bytes of the weights files of these functions, by slot key."""
        with self._lock:
            return {key: self._files[key][1] for key in keys}

    def known(self) -> list[str]:
        """Slot keys of every function that was asked for and not forgotten."""
        with self._lock:
            return list(self._files)

    def forget(self, key: str) -> None:
        """The function with this slot key is removed and not resident."""
        with self._lock:
            digest, _ = self._files.pop(key)
            # another function of this digest reads it anew
            self._graphs.pop(digest, None)

    def program(self, graph: Graph, row_groups: tuple[int, ...] = ()) -> Program:
        """A program with what was measured of it before; of a merged graph, it is not kept."""
        program = specialised(graph, self._device_kind, row_groups)
        program.tiers.know(self._measurements.tiers(graph.architecture))
        return program

    def _kept(self, entries: OrderedDict[str, T], key: str) -> T | None:
        with self._lock:
            return entries.get(key)


def _keep(entries: OrderedDict[str, T], key: str, value: T) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > KEPT:
        entries.popitem(last=False)


def _read(folder: Path) -> _Read:
    graph, index = Graph.decode((folder / GRAPH).read_bytes()), read_index(folder / WEIGHTS)
    check_fit(graph, index)
    return _Read(graph, index, index_ranges(graph))
