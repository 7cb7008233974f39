"""One member captured: its run on weights at fixed addresses, repeated for any content of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.codegen import Program
from fusion.errors import CaptureError
from fusion.graphs.backend import Backend, Body, Captured, race
from fusion.graphs.buffers import Buffers, bucket_of, can_pad, cut
from fusion.numerics import all_close
from fusion.strategies.choice import Choice
from fusion.tiers import GENERATED, GRAPH, MEMBER_ERRORS


class MemberKey(NamedTuple):
    """Runs of equal key are repeated by one graph.

    All addresses, not the first alone: files of one architecture may order their tensors in
    different ways, and hold equal ones once.
    """

    architecture: str
    rows: int  # the row bucket
    addresses: tuple[int, ...]  # of the weights, in the graph's order


class Part(NamedTuple):
    """What a member is captured from."""

    program: Program
    weights: Sequence[Tensor]
    rows: int  # the row bucket

    @property
    def key(self) -> MemberKey:
        """The key of its graph."""
        return member_key(self.program, self.rows, self.weights)

    def body(self, buffers: Buffers) -> Body:
        """Its run on these buffers, to be captured."""
        return partial(own_outputs, self.program, self.weights, buffers.inputs)


def member_key(program: Program, rows: int, weights: Sequence[Tensor]) -> MemberKey:
    """The key of a run on these weights."""
    return MemberKey(program.graph.architecture, rows, tuple(w.data_ptr() for w in weights))


class MemberGraph:
    """Inputs go in by copy and outputs come out as copies; one run at a time."""

    def __init__(self, buffers: Buffers, captured: Captured, outputs: list[Tensor]) -> None:
        self.buffers = buffers
        self.captured = captured
        self.outputs = outputs
        # fewer rows than the bucket's: whether they are run as that many, once measured
        self.is_padding = False
        self.measured: dict[str, float] = {}

    @property
    def bytes(self) -> int:
        """Device bytes that end with it."""
        return self.captured.bytes + self.buffers.bytes

    def takes(self, inputs: Sequence[Tensor]) -> bool:
        """Whether a run on these inputs is one that it repeats."""
        is_full = inputs[0].size(0) == self.buffers.rows
        return (is_full or self.is_padding) and self.buffers.fits(inputs)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for inputs that it takes."""
        self.buffers.fill(inputs)
        self.captured.replay()
        try:
            return cut(self.outputs, inputs[0].size(0))
        finally:
            self.captured.mark_used()

    def close(self) -> None:
        """Free it, once the last use is done."""
        self.captured.close()
        self.outputs = []


def capture_member(backend: Backend, part: Part) -> MemberGraph:
    """Capture, compare with generated code, and measure.

    Raises CaptureError where the work cannot be captured, gives other values, or is no faster, and
    torch.OutOfMemoryError.
    """
    try:
        member = _capture(backend, part)
        try:
            _check(member, part)
            _measure(member, part, backend)
        except BaseException:
            member.close()
            raise
    except torch.OutOfMemoryError:
        raise
    except MEMBER_ERRORS as error:
        raise CaptureError(f"{type(error).__name__}: {error}") from error
    return member


def _capture(backend: Backend, part: Part) -> MemberGraph:
    graph = part.program.graph
    buffers = Buffers(graph, bucket_of(graph, part.rows), backend.device)
    buffers.fill(buffers.sample(buffers.rows))
    captured, (outputs,) = backend.capture([part.body(buffers)])
    return MemberGraph(buffers, captured, outputs)


def own_outputs(
    program: Program, weights: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Outputs that are no views of weights: a graph must not hold a slot's memory."""
    storages = {w.untyped_storage().data_ptr() for w in weights}
    return [
        output.clone() if output.untyped_storage().data_ptr() in storages else output
        for output in program.run(weights, inputs)
    ]


def _check(member: MemberGraph, part: Part) -> None:
    rows = member.buffers.rows
    if any(not output.dim() or output.size(0) != rows for output in member.outputs):
        raise CaptureError("rows out are not rows in")
    inputs = member.buffers.sample(rows)
    if not all_close(member.run(inputs), part.program.run(part.weights, inputs)):
        raise CaptureError("other values than generated code")


def _measure(member: MemberGraph, part: Part, backend: Backend) -> None:
    rows = member.buffers.rows
    full = _race(member, part, backend, rows)
    member.measured = full.measured
    if full.best != GRAPH:
        raise CaptureError("no faster than generated code")
    # the fewest rows of this bucket are those that padding costs most
    fewest = rows // 2 + 1
    if fewest < rows and can_pad(part.program.graph):
        member.is_padding = _race(member, part, backend, fewest).best == GRAPH


def _race(member: MemberGraph, part: Part, backend: Backend, rows: int) -> Choice:
    inputs = member.buffers.sample(rows)
    return race(
        {
            GENERATED: lambda: part.program.run(part.weights, inputs),
            GRAPH: lambda: member.run(inputs),
        },
        backend.seconds,
    )
