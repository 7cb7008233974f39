"""A group captured: its members' graphs side by side, in the way that measured fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.errors import CaptureError
from fusion.graphs.backend import Backend, Captured, race
from fusion.graphs.buffers import cut
from fusion.graphs.member import MemberGraph, Part, own_outputs
from fusion.numerics import all_close
from fusion.strategies.stack import make_stacks
from fusion.strategies.work import MEMBER_ERRORS, Work

GRAPHS = "graphs"  # each member's graph, one after another
STREAMS = "streams"  # one graph, captured on forked streams
CHILDREN = "children"  # one graph, assembled from the members' graphs
STACK = "stack"  # one graph of members of one architecture as one program, where any two are

Job = Sequence[Tensor]  # one member's inputs


class Way(NamedTuple):
    """A graph of all members, and where each member's outputs are."""

    captured: Captured
    outputs: Sequence[list[Tensor]]


class GroupGraph:
    """Runs all of its members at once, or one after another where that measured faster."""

    def __init__(
        self,
        members: Sequence[MemberGraph],
        name: str,
        way: Way | None,
        measured: Mapping[str, float],
        missing: Mapping[str, str],
    ) -> None:
        self.members = members
        self.name = name
        self.measured = dict(measured)
        self.missing = dict(missing)  # ways that there are not, and why
        self._way = way

    @property
    def bytes(self) -> int:
        """Device bytes that end with it; its members' are their own."""
        return self._way.captured.bytes if self._way else 0

    def takes(self, jobs: Sequence[Job]) -> bool:
        """Whether a run on these inputs, one for each member, is one that it repeats."""
        return all(member.takes(job) for member, job in zip(self.members, jobs, strict=True))

    def run(self, jobs: Sequence[Job]) -> list[list[Tensor]]:
        """Per member its outputs, for inputs that it takes."""
        return run_all(self.members, self._way, jobs)

    def close(self) -> None:
        """Free it, once the last use is done; the members stay."""
        if self._way is not None:
            self._way.captured.close()
            self._way = None


def run_all(
    members: Sequence[MemberGraph], way: Way | None, jobs: Sequence[Job]
) -> list[list[Tensor]]:
    """One run of the members by a way, or one after another."""
    if way is None:
        return [member.run(job) for member, job in zip(members, jobs, strict=True)]
    for member, job in zip(members, jobs, strict=True):
        member.buffers.fill(job)
    way.captured.replay()
    try:
        return [cut(found, job[0].size(0)) for found, job in zip(way.outputs, jobs, strict=True)]
    finally:
        way.captured.mark_used()


def capture_group(
    backend: Backend, parts: Sequence[Part], members: Sequence[MemberGraph]
) -> GroupGraph:
    """Make every way there is, compare and measure them, keep the fastest.

    `members` are the graphs of `parts`. Raises torch.OutOfMemoryError.
    """
    ways: dict[str, Way | None] = {GRAPHS: None}
    missing: dict[str, str] = {}
    jobs = [member.buffers.sample(member.buffers.rows) for member in members]
    try:
        for name, make in WAYS.items():
            try:
                ways[name] = make(backend, parts, members)
                _check(members, ways[name], jobs)
            except torch.OutOfMemoryError:
                raise
            except (CaptureError, *MEMBER_ERRORS) as error:
                missing[name] = str(error)
                _close(ways.pop(name, None))
        choice = race(
            {name: partial(run_all, members, way, jobs) for name, way in ways.items()},
            backend.seconds,
        )
        kept = ways.pop(choice.best)
        return GroupGraph(members, choice.best, kept, choice.measured, missing)
    finally:
        for way in ways.values():
            _close(way)


def on_streams(backend: Backend, parts: Sequence[Part], members: Sequence[MemberGraph]) -> Way:
    """One capture; it reads the members' buffers, and has activations and outputs of its own."""
    bodies = [part.body(member.buffers) for part, member in zip(parts, members, strict=True)]
    return Way(*backend.capture(bodies))


def of_children(backend: Backend, _parts: Sequence[Part], members: Sequence[MemberGraph]) -> Way:
    """No capture: the members' graphs as they are."""
    captured = backend.assemble([member.captured for member in members])
    return Way(captured, [member.outputs for member in members])


def stacked(backend: Backend, parts: Sequence[Part], members: Sequence[MemberGraph]) -> Way:
    """One capture of batched products over the members' weights, where they lie."""
    stacks = make_stacks([part.program for part in parts])
    if stacks is None:
        raise CaptureError("no two members stack")
    works = [
        Work(part.program, part.weights, member.buffers.inputs, part.rows)
        for part, member in zip(parts, members, strict=True)
    ]

    def body() -> list[Tensor]:
        return [y for outputs in stacks(works, _run_generated) for y in outputs]

    recording = backend.capture([body])
    flat = iter(recording.outputs[0])
    return Way(recording.captured, [list(islice(flat, len(m.outputs))) for m in members])


def _run_generated(work: Work) -> list[Tensor]:
    return own_outputs(work.program, work.weights, work.inputs)


# how members become one graph
WAYS: Mapping[str, Callable[[Backend, Sequence[Part], Sequence[MemberGraph]], Way]] = {
    STREAMS: on_streams,
    CHILDREN: of_children,
    STACK: stacked,
}


def _check(members: Sequence[MemberGraph], way: Way | None, jobs: Sequence[Job]) -> None:
    expected = run_all(members, None, jobs)
    found = run_all(members, way, jobs)
    if not all(map(all_close, found, expected)):
        raise CaptureError("other values than the members' own graphs")


def _close(way: Way | None) -> None:
    if way is not None:
        way.captured.close()
