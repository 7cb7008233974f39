"""Artifacts as this worker has read them: graphs, generated programs, weights indexes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from contract.acceptance import is_as_accepted
from contract.function import WEIGHTS, Function, Manifest
from fusion.codegen import Program
from fusion.errors import GraphError
from fusion.index_ranges import IndexRange, index_ranges
from fusion.inspection import check_fit
from fusion.ir import Graph
from fusion.loaders import Loader
from fusion.measurements import Measurements
from fusion.slots import KEPT_S, SlotRequest
from fusion.specialise import specialised
from fusion.weights import WeightsIndex, read_index

if TYPE_CHECKING:
    from workers.blocks import InBlocks

# A graph is some hundred kilobytes of records; this many are kept.
KEPT = 512
T = TypeVar("T")


class Body(NamedTuple):
    """One graph of a function, ready to run."""

    graph: Graph
    # of the architecture: shared with other functions, so names are to be read from `graph`
    program: Program
    # content hash per weight, in the graph's order
    weight_keys: tuple[str, ...]


class Loaded(NamedTuple):
    """What it takes to run a function, its weights aside."""

    # one, or one per row bucket, ascending
    bodies: tuple[Body, ...]
    slot: SlotRequest
    # of the inputs that are indices
    ranges: tuple[IndexRange, ...]
    # of a function that does not fit as a whole
    blocks: InBlocks | None = None
    # seconds that this caller waited for the plan in blocks
    planning_s: float = 0.0

    def at(self, rows: int) -> Body:
        """What runs so many rows: the exact row bucket or the next one."""
        return next(
            (b for b in self.bodies if (b.graph.fixed_rows or rows) >= rows), self.bodies[-1]
        )


class _Read(NamedTuple):
    """An artifact's files."""

    graphs: tuple[Graph, ...]
    weights: WeightsIndex
    ranges: tuple[IndexRange, ...]
    # whether the digests of the weights were compared when the artifact was accepted
    is_verified: bool


class Library:
    """Reads each artifact once; generates code once per architecture. Thread-safe."""

    def __init__(self, artifacts: Path, device_kind: str, measurements: Measurements) -> None:
        self._artifacts = artifacts
        self._device_kind = device_kind
        self._measurements = measurements
        self._lock = threading.Lock()
        self._reads: OrderedDict[str, _Read] = OrderedDict()
        self._programs: OrderedDict[str, Program] = OrderedDict()
        # by slot key: digest, bytes of the weights file
        self._files: dict[str, tuple[str, int]] = {}
        # slot keys of functions that stay until they are unloaded by name, whatever their
        # keep_alive_s; changed by one thread
        self.kept: set[str] = set()

    def get(self, function: Function) -> Loaded:
        """The function's artifact; GraphError, WeightsError or OSError say that it is broken."""
        folder = self._artifacts / function.digest
        # two threads may read the same artifact at once: cheaper than holding the lock meanwhile
        read = self._kept(self._reads, function.digest) or _read(folder, function.manifest)
        graphs, index, ranges, _ = read
        if graphs[0].architecture != function.manifest.architecture:
            raise GraphError("architecture", "differs from the manifest's")
        programs = [self._kept(self._programs, g.architecture) or self.program(g) for g in graphs]
        with self._lock:
            _keep(self._reads, function.digest, read)
            for k, graph in enumerate(graphs):
                # another thread may have been first: tiers are found for one program
                programs[k] = self._programs.setdefault(graph.architecture, programs[k])
                _keep(self._programs, graph.architecture, programs[k])
            self._files.pop(str(function.ref), None)  # the last asked for is the last in order
            self._files[str(function.ref)] = (function.digest, index.file_bytes)
        request = SlotRequest(
            str(function.ref), folder / WEIGHTS, index, self._keep_alive_s(function),
            read.is_verified,
        )  # fmt: skip
        hashes = {entry.name: entry.sha256 for entry in index.entries}
        bodies = tuple(
            Body(graph, program, tuple(hashes[spec.name] for spec in graph.weights))
            for graph, program in zip(graphs, programs, strict=True)
        )
        return Loaded(bodies, request, ranges)

    def get_eager(self, function: Function, loader: Loader) -> SlotRequest:
        """The weights of a function without a graph; WeightsError where they are broken."""
        path = self._artifacts / function.digest / WEIGHTS
        index = read_index(path)
        key = str(function.ref)
        with self._lock:
            self._files.pop(key, None)
            self._files[key] = (function.digest, index.file_bytes)
        keep_alive_s = self._keep_alive_s(function)
        return SlotRequest(key, path, index, keep_alive_s, is_as_accepted(path), loader)

    def programs(self) -> list[Program]:
        """Of every architecture that is kept."""
        with self._lock:
            return list(self._programs.values())

    def newest(self, count: int) -> list[tuple[str, list[Program]]]:
        """Functions by slot key, and their programs; the last asked for."""
        with self._lock:
            found = []
            for key, (digest, _) in [*self._files.items()][-count:]:
                read = self._reads.get(digest)
                graphs = read.graphs if read else ()
                programs = [self._programs.get(graph.architecture) for graph in graphs]
                found.append((key, [program for program in programs if program is not None]))
            return found

    def file_bytes(self, keys: Iterable[str]) -> dict[str, int]:
        """Bytes of the weights files of these functions, by slot key."""
        with self._lock:
            return {key: self._files[key][1] for key in keys}

    def weights_files(self, keys: Iterable[str]) -> dict[str, Path]:
        """Where the weights of those functions are that are known, by slot key."""
        with self._lock:
            known = {key: self._files[key][0] for key in keys if key in self._files}
        return {key: self._artifacts / digest / WEIGHTS for key, digest in known.items()}

    def known(self) -> list[str]:
        """Slot keys of every function that was asked for and not forgotten."""
        with self._lock:
            return list(self._files)

    def forget(self, key: str) -> None:
        """The function with this slot key is removed and not resident."""
        with self._lock:
            digest, _ = self._files.pop(key)
            # another function of this digest reads it anew
            self._reads.pop(digest, None)

    def program(self, graph: Graph, row_groups: tuple[int, ...] = ()) -> Program:
        """A program with what was measured of it before; of a merged graph, it is not kept."""
        program = specialised(graph, self._device_kind, row_groups)
        program.tiers.know(self._measurements.tiers(graph.architecture))
        return program

    def _keep_alive_s(self, function: Function) -> float | None:
        return KEPT_S if str(function.ref) in self.kept else function.manifest.keep_alive_s

    def _kept(self, entries: OrderedDict[str, T], key: str) -> T | None:
        with self._lock:
            return entries.get(key)


def _keep(entries: OrderedDict[str, T], key: str, value: T) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > KEPT:
        entries.popitem(last=False)


def _read(folder: Path, manifest: Manifest) -> _Read:
    is_verified = is_as_accepted(folder / WEIGHTS)
    index = read_index(folder / WEIGHTS)
    graphs = tuple(Graph.decode((folder / name).read_bytes()) for name in manifest.graph_files)
    for graph in graphs:
        check_fit(graph, index)
    ranges = {found: None for graph in graphs for found in index_ranges(graph)}
    return _Read(graphs, index, tuple(ranges), is_verified)
