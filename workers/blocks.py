"""Functions that do not fit as a whole: which they are on this worker, and how they run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

from contract.function import Function
from contract.log import Log
from contract.store.workers import BlocksReport
from contract.tensors import Tensors
from fusion.blocks.body import BlockedGraph, in_blocks
from fusion.blocks.loading import BlockedWeights, BlocksLoader
from fusion.blocks.observed import Observed
from fusion.blocks.probe import measure_read_bytes_per_s
from fusion.blocks.times import Rates, measure_rates
from fusion.codegen import Program
from fusion.errors import BudgetExceeded
from fusion.loaders import MappedLoader
from fusion.plan import row_bucket
from fusion.slots import Lease, SlotTable
from fusion.swapping.blocks import DeviceBlocks, DeviceBlocksLoader
from fusion.swapping.loader import ArenaLoader
from fusion.tiers import Run, Tiers
from workers.dags import Call
from workers.library import Loaded
from workers.measuring import in_ms
from workers.replanning import Replanning

log = Log("blocks")
TIMES_KEPT = 9
BLOCKS = "blocks"


class InBlocks(NamedTuple):
    """A function's graphs as they run in blocks."""

    loader: BlocksLoader | DeviceBlocksLoader
    # number of the graph, rows, its plan and what the run took
    note: Callable[[int, int, BlockedGraph, Observed], None]

    def call(self, loaded: Loaded, rows: int, jobs: list[Tensors], lease: Lease) -> Call:
        """Jobs of the function, with a program of its own."""
        body = loaded.at(rows)
        number = loaded.bodies.index(body)
        weights = lease.slots[loaded.slot.key].weights
        assert isinstance(weights, BlockedWeights | DeviceBlocks), "the loader is its plan's"

        def run(_: object, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            outputs = weights.run(number, inputs)
            latest = weights.latest(number)
            if latest is not None:
                self.note(number, rows, *latest)
            return outputs

        program = _program(body.program, run)
        absent = [torch.empty(0)] * len(body.graph.weights)
        return Call(loaded.slot.key, body.graph, program, body.weight_keys, absent, jobs, rows)


def _program(plain: Program, run: Run) -> Program:
    return Program(plain.graph, "", run, Tiers(run), plain.row_groups)


class Blocks:
    """Plans of functions that are larger than the budget, made when they are first wanted."""

    def __init__(
        self,
        slots: SlotTable,
        known: Callable[[], Iterable[str]],
        replanning: Replanning,
    ) -> None:
        self._slots = slots
        self._replanning = replanning
        # is for weights alone; on a CPU, which has none, they share their room with activations
        self._arena = slots.loader if isinstance(slots.loader, ArenaLoader) else None
        # keys of functions that were not removed
        self._known = known
        self._whole = self._arena or MappedLoader()
        # one plan at a time: two of one function would differ, and it has one slot
        self._planning = threading.Lock()
        self._lock = threading.Lock()  # guards what is below
        self._found: dict[str, Loaded] = {}
        self._latest_s: dict[str, dict[int, deque[float]]] = {}
        self._read_rate: float | None = None

    def fitted(self, function: Function, loaded: Loaded) -> Loaded:
        """As it is where it fits; else in blocks; BudgetExceeded says what it would need."""
        began_s = perf_counter()
        found = self._fitted(function, loaded)
        return found._replace(planning_s=perf_counter() - began_s) if found.blocks else found

    def _fitted(self, function: Function, loaded: Loaded) -> Loaded:
        slot = loaded.slot
        whole_bytes = self._whole.slot_bytes(slot.index)
        whole_bytes += self._activations(function, 1)
        room_bytes = self._slots.room_bytes(slot)
        is_whole = whole_bytes <= room_bytes
        if is_whole and slot.key not in self._found:
            return loaded
        with self._planning:
            found = self._found.get(slot.key)
            if found is not None and self._fits(function, found, room_bytes) and not is_whole:
                return self._renewed(found)
            # its slot's bytes are counted as it was asked for: it changes only where that is free
            if not self._slots.evict(slot.key) and slot.key in self._slots.stats().resident:
                return found or loaded
            if is_whole:
                self._put(slot.key, None)
                return loaded
            made = self._planned(function, loaded, room_bytes)
            self._put(slot.key, made)
            return made

    def reports(self) -> dict[str, BlocksReport]:
        """The plans, by function; of several graphs that of the smallest rows."""
        with self._lock:
            found = {key: loaded.blocks for key, loaded in self._found.items()}
        return {
            key: _report(blocks.loader.bodies[0], self._replanning.is_settled(key))
            for key, blocks in found.items()
            if blocks
        }

    def measured(self) -> dict[str, dict[str, dict[str, float]]]:
        """Milliseconds by function and rows, as of tiers, for people."""
        with self._lock:
            return {
                key: {
                    str(rows): in_ms({BLOCKS: median(seconds)})
                    for rows, seconds in sorted(by_rows.items())
                }
                for key, by_rows in self._latest_s.items()
            }

    def slot_bytes(self, sizes: dict[str, int]) -> dict[str, int]:
        """The same sizes, of functions in blocks what is resident of them."""
        with self._lock:
            return {
                key: found.blocks.loader.slot_bytes(found.slot.index)
                if (found := self._found.get(key)) and found.blocks
                else size
                for key, size in sizes.items()
            }

    def note(self, key: str, rows: int, seconds: float) -> None:
        """A run took so long."""
        with self._lock:
            by_rows = self._latest_s.setdefault(key, {})
            by_rows.setdefault(row_bucket(rows), deque(maxlen=TIMES_KEPT)).append(seconds)

    def forget(self) -> None:
        """Functions were removed."""
        known = {*self._known()}
        self._replanning.keep(known)
        with self._lock:
            self._found = {key: found for key, found in self._found.items() if key in known}
            self._latest_s = {key: s for key, s in self._latest_s.items() if key in known}

    def _renewed(self, found: Loaded) -> Loaded:
        """As it was planned anew meanwhile, once nobody has it."""
        key = found.slot.key
        bodies = self._replanning.next(key)
        if bodies is None:
            return found
        if not self._slots.evict(key) and key in self._slots.stats().resident:
            return found
        self._replanning.taken(key)
        made = self._with(found, bodies)
        self._put(key, made)
        return made

    def _put(self, key: str, found: Loaded | None) -> None:
        with self._lock:
            self._found.pop(key, None)
            if found is not None:
                self._found[key] = found

    def _planned(self, function: Function, loaded: Loaded, room_bytes: int) -> Loaded:
        """In blocks beside as many rows as its jobs may have, else beside one."""
        manifest = function.manifest
        least_bytes = self._activations(function, 1)
        try:
            most_bytes = self._activations(function, manifest.max_batch)
            bodies = self._bodies(loaded, room_bytes - most_bytes)
        except BudgetExceeded:
            try:
                bodies = self._bodies(loaded, room_bytes - least_bytes)
            except BudgetExceeded as error:
                whole_bytes = self._whole.slot_bytes(loaded.slot.index)
                needed_bytes = min(error.needed_bytes, whole_bytes) + least_bytes
                raise BudgetExceeded(needed_bytes, room_bytes, str(function.ref)) from None
        self._replanning.began(loaded.slot.key, [body.graph for body in loaded.bodies], bodies)
        return self._with(loaded, bodies)

    def _with(self, loaded: Loaded, bodies: Sequence[BlockedGraph]) -> Loaded:
        key, arena = loaded.slot.key, self._arena
        loader = BlocksLoader(bodies) if arena is None else DeviceBlocksLoader(bodies, arena)
        report = _report(bodies[0])
        log.info(
            "in_blocks",
            function=key,
            blocks=len(report.block_bytes),
            ring_bytes=report.ring_bytes,
            resident_bytes=report.resident_bytes,
            is_measured=report.is_measured,
        )
        slot = replace(loaded.slot, loader=loader)
        in_blocks = InBlocks(loader, partial(self._replanning.note, key))
        return loaded._replace(slot=slot, blocks=in_blocks)

    def _bodies(self, loaded: Loaded, available_bytes: int) -> list[BlockedGraph]:
        slot = loaded.slot
        read_bytes_per_s = self._read_bytes_per_s(slot.path, slot.index.file_bytes)
        return [
            in_blocks(
                body.graph, slot.index, available_bytes, self._rates, read_bytes_per_s,
                known=self._replanning.known(body.graph), is_cpu=self._arena is None,
            )
            for body in loaded.bodies
        ]  # fmt: skip

    def _activations(self, function: Function, rows: int) -> int:
        """What so many rows take of the same room."""
        return function.manifest.activation_bytes_at(rows) if self._arena is None else 0

    def _fits(self, function: Function, found: Loaded, room_bytes: int) -> bool:
        """Whether its plan holds beside one row."""
        assert found.blocks is not None
        held_bytes = found.blocks.loader.slot_bytes(found.slot.index)
        return held_bytes + self._activations(function, 1) <= room_bytes

    @cached_property
    def _rates(self) -> Rates:
        return measure_rates(str(self._arena.memory().device) if self._arena else "cpu")

    def _read_bytes_per_s(self, path: Path, file_bytes: int) -> float:
        """Of the first file that was asked for: all of them lie in one folder."""
        if self._read_rate is None:
            self._read_rate = measure_read_bytes_per_s(path, file_bytes)
        return self._read_rate


def _report(body: BlockedGraph, is_settled: bool = False) -> BlocksReport:
    plan = body.plan
    return BlocksReport(
        [block.bytes for block in plan.blocks],
        plan.ring_bytes,
        plan.resident_bytes,
        body.is_measured or is_settled,
    )
