"""`stack`: members of one architecture run as one, their weights read where they are."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from fusion.codegen import Program, generate
from fusion.stacking.graph import may_stack, stack_graph
from fusion.stacking.strided import progressions, strided
from fusion.strategies.work import Work

# per architecture: sets of members whose views are kept
KEPT = 64

# Made at a program's first run, for shapes take a while: it fits any number of members. It belongs
# to the architecture, as the program does.
_stacked: WeakKeyDictionary[Program, Program | None] = WeakKeyDictionary()


class Stack:
    """Members of one architecture, stacked; as many at once as lie at equal distances."""

    def __init__(self, program: Program, members: Sequence[int]) -> None:
        self.members = tuple(members)
        self._program = program
        self._views: OrderedDict[tuple[int, ...], list[Tensor] | None] = OrderedDict()

    def run(
        self, works: Sequence[Work], run_one: Callable[[Work], list[Tensor]]
    ) -> dict[int, list[Tensor]]:
        """Outputs by member; one of MEMBER_ERRORS when any of them fails."""
        found: dict[int, list[Tensor]] = {}
        addresses = _places([works[k].weights for k in self.members])
        for part in progressions(addresses):
            ks = [self.members[i] for i in part]
            its = [works[k] for k in ks]
            together = self._run_together(its) if len(its) > 1 else None
            found.update(zip(ks, together or map(run_one, its), strict=True))
        return found

    def _run_together(self, works: Sequence[Work]) -> list[list[Tensor]] | None:
        """None where they do not stack."""
        program = _stacked_program(self._program)
        if program is None:
            return None
        weights = self._stacked_weights([work.weights for work in works])
        rows = [work.inputs[0].size(0) for work in works]
        is_even = min(rows) == max(rows)
        if weights is None or not (is_even or works[0].program.graph.batchable):
            return None
        parts = zip(*[work.inputs for work in works], strict=True)
        inputs = [torch.stack(xs) if is_even else _padded(xs, max(rows)) for xs in parts]
        outputs = program.run(weights, inputs)
        each = zip(*[output.unbind() for output in outputs], strict=True)
        if is_even:
            return [list(its) for its in each]
        return [[y[:count] for y in its] for its, count in zip(each, rows, strict=True)]

    def _stacked_weights(self, members: Sequence[Sequence[Tensor]]) -> list[Tensor] | None:
        """Views by address: valid as long as the members' own are, which callers hold."""
        key = tuple([weight.data_ptr() for weights in members for weight in weights])
        if key in self._views:
            self._views.move_to_end(key)
            return self._views[key]
        views: list[Tensor] = []
        for tensors in zip(*members, strict=True):
            view = strided(tensors)
            if view is not None:
                views.append(view)
        found = views if len(views) == len(members[0]) else None
        self._views[key] = found
        if len(self._views) > KEPT:
            self._views.popitem(last=False)
        return found


class Stacks:
    """All members of a group: those of each architecture stacked, the others by themselves."""

    def __init__(self, stacks: Sequence[Stack]) -> None:
        self.stacks = tuple(stacks)

    def __call__(
        self, works: Sequence[Work], run_one: Callable[[Work], list[Tensor]] = Work.run
    ) -> list[list[Tensor]]:
        """Per member its outputs; one of MEMBER_ERRORS when any member fails.

        `run_one` runs those that do not stack.
        """
        found: dict[int, list[Tensor]] = {}
        for stack in self.stacks:
            found.update(stack.run(works, run_one))
        return [found[k] if k in found else run_one(work) for k, work in enumerate(works)]


def make_stacks(programs: Sequence[Program]) -> Stacks | None:
    """The stacks of members with these programs; None where no two of them stack."""
    members = defaultdict(list)
    for k, program in enumerate(programs):
        members[program.graph.architecture].append(k)
    stacks = [
        Stack(programs[its[0]], its)
        for its in members.values()
        if len(its) > 1 and may_stack(programs[its[0]].graph)
    ]
    return Stacks(stacks) if stacks else None


def _places(members: Sequence[Sequence[Tensor]]) -> list[int]:
    """An address of each member's own: that of the first weight which no two of them share."""
    first: list[int] = []
    for tensors in zip(*members, strict=True):
        addresses = [tensor.data_ptr() for tensor in tensors]
        if len(set(addresses)) == len(addresses):
            return addresses
        first = first or addresses
    return first


def _stacked_program(program: Program) -> Program | None:
    if program not in _stacked:
        graph = stack_graph(program.graph)
        _stacked[program] = None if graph is None else generate(graph)
    return _stacked[program]


def _padded(parts: Sequence[Tensor], rows: int) -> Tensor:
    found = parts[0].new_zeros((len(parts), rows, *parts[0].shape[1:]))
    for place, x in zip(found, parts, strict=True):
        place[: x.size(0)] = x
    return found
