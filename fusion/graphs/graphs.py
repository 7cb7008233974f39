"""The captured graphs of a device: which runs they repeat, and which are captured next."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.codegen import Program
from fusion.errors import BudgetExceeded, CaptureError
from fusion.graphs.backend import Backend
from fusion.graphs.cache import GraphCache
from fusion.graphs.group import GroupGraph, capture_group
from fusion.graphs.member import MemberGraph, MemberKey, Part, capture_member, member_key
from fusion.strategies.work import Outcome, Work, attempt

GroupKey = tuple[MemberKey, ...]
Cache = GraphCache[MemberKey | GroupKey, MemberGraph | GroupGraph]

# keys that found no room, so that they are not captured at every idle moment
KEPT_REFUSALS = 1024


class Replayed(NamedTuple):
    """A group's run by its graph."""

    way: str
    measured: dict[str, float]  # seconds of each way, when it was captured
    outcomes: list[Outcome]


class Graphs:
    """One thread runs or captures at a time, any may evict.

    A run is repeated only where there is a graph for it; nothing is captured on its way.
    """

    def __init__(self, backend: Backend, cache: Cache) -> None:
        self.cache = cache
        self._backend = backend
        self._has_groups = False
        # by architecture and row bucket: what cannot be captured, or is not worth it
        self.refused: dict[tuple[str, int], str] = {}
        # by key: no memory was left; other addresses may be luckier
        self._no_room: dict[MemberKey | GroupKey, None] = {}

    def run(
        self, program: Program, rows: int, weights: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> list[Tensor] | None:
        """A member's outputs; None where nothing is captured for this run."""
        with self.cache.using(member_key(program, rows, weights)) as member:
            if not isinstance(member, MemberGraph) or not member.takes(inputs):
                return None
            return member.run(inputs)

    def run_group(self, works: Sequence[Work]) -> Replayed | None:
        """A group's outputs; members without a graph run after the others, as they would alone."""
        if not self._has_groups:
            return None
        kept = [k for k, work in enumerate(works) if not self._is_refused(work.program, work.rows)]
        keys = {k: member_key(works[k].program, works[k].rows, works[k].weights) for k in kept}
        order = sorted(kept, key=keys.__getitem__)
        jobs = [works[k].inputs for k in order]
        with self.cache.using(tuple(keys[k] for k in order)) as group:
            if not isinstance(group, GroupGraph) or not group.takes(jobs):
                return None
            found = dict(zip(order, group.run(jobs), strict=True))
        outcomes = [found[k] if k in found else attempt(work) for k, work in enumerate(works)]
        return Replayed(group.name, group.measured, outcomes)

    def capture_next(self, parts: Sequence[Part]) -> bool:
        """Capture what these lack, a member or at last the group; False where that is nothing.

        Weights are to be ready, and held until it returns.
        """
        wanted = [part for part in parts if not self._is_refused(part.program, part.rows)]
        for part in wanted:
            if self._lacks(part.key):
                self._capture_member(part)
                return True
        # in this order a group has one key, whatever the order of its members
        wanted.sort(key=lambda part: part.key)
        key = tuple(part.key for part in wanted)
        is_group = len(key) > 1 and len({*key}) == len(key)
        return is_group and self._lacks(key) and self._capture_group(key, wanted)

    def _lacks(self, key: MemberKey | GroupKey) -> bool:
        return key not in self.cache and key not in self._no_room

    def _capture_member(self, part: Part) -> None:
        key = part.key
        try:
            member = capture_member(self._backend, part)
        except CaptureError as error:
            self.refused[key.architecture, key.rows] = str(error)
            return
        except torch.OutOfMemoryError:
            self._note_no_room(key)
            return
        if self._keep(key, member):
            program = part.program

            def replay(
                rows: int, weights: Sequence[Tensor], inputs: Sequence[Tensor]
            ) -> list[Tensor] | None:
                return self.run(program, rows, weights, inputs)

            program.tiers.replay_by(replay, part.rows, member.measured)

    def _capture_group(self, key: GroupKey, parts: Sequence[Part]) -> bool:
        with ExitStack() as stack:
            members = [stack.enter_context(self.cache.using(each)) for each in key]
            if not all(isinstance(member, MemberGraph) for member in members):
                return False  # one found no room, or was evicted just now
            try:
                group = capture_group(self._backend, parts, members)  # type: ignore[arg-type]  # as was just checked
            except torch.OutOfMemoryError:
                self._note_no_room(key)
                return True
            self._has_groups |= self._keep(key, group, key)
        return True

    def _keep(
        self,
        key: MemberKey | GroupKey,
        graph: MemberGraph | GroupGraph,
        needs: Sequence[MemberKey] = (),
    ) -> bool:
        try:
            self.cache.put(key, graph, needs)
        except BudgetExceeded:
            graph.close()
            self._note_no_room(key)
            return False
        return True

    def _note_no_room(self, key: MemberKey | GroupKey) -> None:
        self._no_room[key] = None
        if len(self._no_room) > KEPT_REFUSALS:
            del self._no_room[next(iter(self._no_room))]

    def _is_refused(self, program: Program, rows: int) -> bool:
        return (program.graph.architecture, rows) in self.refused
