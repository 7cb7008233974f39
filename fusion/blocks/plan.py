"""The plan of a function that runs in blocks: what stays, what comes when and where. Pure.

Memory is one part that stays and one ring. Each block has a place in the ring, the same in every
run, and is read as soon as the blocks before it that lie there have been computed; so reading is
as far ahead of computing as the ring allows, and a run begins with what was read ahead at the end
of the run before. Every candidate (how much stays and what, how large blocks are) is played
through with the times that are known, and the one with the shortest run is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fusion.blocks.records import (
    PAGE_BYTES,
    Block,
    BlockPlan,
    Extent,
    Load,
    bytes_of,
    spans_of,
)
from fusion.blocks.ring import Held, Range, afters_of, from_both_ends, in_turn, two_of
from fusion.blocks.schedule import least_s, played_s
from fusion.errors import BudgetExceeded

# plans are as good as each other within
NEAR_SHARE = 0.03
# parts of what is there for the ring, the rest stays; and blocks of a ring
_RING_SHARES = (1 / 16, 1 / 4, 1 / 2, 1.0)
_BLOCKS_OF_A_RING = (2, 4, 8)


def make_plan(
    steps: Sequence[Load],
    extents: Sequence[Extent],
    must_stay: Collection[int],
    available_bytes: int,
    read_bytes_per_s: float,
) -> BlockPlan:
    """The fastest plan found; BudgetExceeded names the least bytes that would do."""
    planning = _Planning(steps, extents, frozenset(must_stay), read_bytes_per_s)
    least = planning.least_bytes()
    if least > available_bytes:
        raise BudgetExceeded(least, available_bytes, "the function in blocks")
    plain = planning.plain(available_bytes)
    found = [plain, *filter(None, planning.candidates(available_bytes))]
    best_s = min(plan.run_s for plan in found)
    # times are never exact: of what is about as fast, the plan that reads least
    near_s = min(best_s * (1 + NEAR_SHARE), plain.run_s)
    near = [plan for plan in found if plan.run_s <= near_s]
    plan = min(near, key=lambda plan: (plan.read_bytes, plan.run_s))
    return plan._replace(least_s=least_s(steps, extents, available_bytes, read_bytes_per_s))


def plain_plan(
    steps: Sequence[Load],
    extents: Sequence[Extent],
    must_stay: Collection[int],
    available_bytes: int,
    read_bytes_per_s: float,
) -> BlockPlan:
    """Nothing stays but what must, and each step is a block."""
    return _Planning(steps, extents, frozenset(must_stay), read_bytes_per_s).plain(available_bytes)


def least_bytes(
    steps: Sequence[Load], extents: Sequence[Extent], must_stay: Collection[int]
) -> int:
    """The smallest budget for the weights: what must stay, and any two steps after each other."""
    return _Planning(steps, extents, frozenset(must_stay), 1.0).least_bytes()


class _Planning:
    """What all candidates have in common."""

    def __init__(
        self,
        steps: Sequence[Load],
        extents: Sequence[Extent],
        must_stay: frozenset[int],
        read_bytes_per_s: float,
    ) -> None:
        self._steps = steps
        self._extents = extents
        self._must_stay = must_stay
        self._read_bytes_per_s = read_bytes_per_s

    def least_bytes(self) -> int:
        alone = [r.bytes for r in self._ranges(self._must_stay, 0) if r.bytes]
        return bytes_of(self._spans(self._must_stay)) + two_of(alone)

    def plain(self, available_bytes: int) -> BlockPlan:
        kept_bytes = bytes_of(self._spans(self._must_stay))
        plan = self._plan(self._must_stay, _pages(available_bytes - kept_bytes), 0)
        assert plan is not None, "the least ring holds every two steps"
        return plan

    def candidates(self, available_bytes: int) -> Iterable[BlockPlan | None]:
        kept_bytes = bytes_of(self._spans(self._must_stay))
        least_ring_bytes = self.least_bytes() - kept_bytes
        room_bytes = _pages(available_bytes - kept_bytes)
        everything = frozenset(range(len(self._extents)))
        if bytes_of(self._spans(everything)) <= available_bytes:
            yield self._plan(everything, 0, 0)
            return
        orders = self._orders()
        tried: set[frozenset[int]] = set()
        for share in (0.0, *_RING_SHARES):
            ring_bytes = max(_pages(int(room_bytes * share)), least_ring_bytes)
            residents = {self._resident(order, available_bytes - ring_bytes) for order in orders}
            for resident in residents - tried:
                tried.add(resident)
                # what stays may be less than was left for it
                ring = _pages(available_bytes - bytes_of(self._spans(resident)))
                for count in _BLOCKS_OF_A_RING:
                    yield self._plan(resident, ring, ring // count)

    def _orders(self) -> list[list[int]]:
        """Steps in the orders in which their weights may be chosen to stay."""
        places = [k for k, step in enumerate(self._steps) if step.extents]

        def s_per_byte(place: int) -> float:
            step = self._steps[place]
            return step.compute_s / max(1, sum(map(self._bytes, step.extents)))

        # any number of the first of these lie evenly among the steps: van der Corput's sequence
        bits = len(places).bit_length()
        even = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
        evenly = [places[k] for k in even if k < len(places)]
        return [places, places[::-1], evenly, sorted(places, key=s_per_byte)]

    def _bytes(self, extent: int) -> int:
        return self._extents[extent].end - self._extents[extent].begin

    def _spans(self, chosen: Iterable[int]) -> tuple[Extent, ...]:
        return spans_of(self._extents[k] for k in chosen)

    def _resident(self, order: Sequence[int], bytes_: int) -> frozenset[int]:
        """What stays of the steps in this order, in so many bytes."""
        resident = set(self._must_stay)
        left = bytes_ - bytes_of(self._spans(resident))
        for place in order:
            new = [k for k in self._steps[place].extents if k not in resident]
            # pages and gaps included, whatever lies beside it
            cost = sum(-(-self._bytes(k) // PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES for k in new)
            if cost <= left:
                resident.update(new)
                left -= cost
        return frozenset(self._fitting(resident, bytes_))

    def _fitting(self, resident: set[int], bytes_: int) -> set[int]:
        """Less, where joined spans brought gaps along."""
        optional = sorted(resident - self._must_stay, reverse=True)
        while optional and bytes_of(self._spans(resident)) > bytes_:
            resident.discard(optional.pop())
        return resident

    def _plan(
        self, resident: frozenset[int], ring_bytes: int, block_bytes: int
    ) -> BlockPlan | None:
        ranges = self._ranges(resident, block_bytes)
        sizes = [r.bytes for r in ranges if r.bytes]
        if two_of(sizes) > ring_bytes:
            return None
        ring_bytes = min(ring_bytes, sum(sizes))
        plans = []
        for place in (in_turn, from_both_ends):
            offsets = place(ranges, ring_bytes)
            afters = afters_of(ranges, offsets)
            blocks = tuple(
                Block(r.begin, r.end, r.extents, r.spans, offset, after)
                for r, offset, after in zip(ranges, offsets, afters, strict=True)
            )
            run_s = played_s(ranges, afters, self._read_bytes_per_s)
            kept = tuple(sorted(resident))
            used_bytes = max(block.offset + block.bytes for block in blocks)
            plans.append(BlockPlan(blocks, used_bytes, kept, self._spans(resident), run_s))
            if min(afters) > 1:
                break  # none is read only once the one before it was computed
        return min(plans, key=lambda plan: plan.run_s)

    def _ranges(self, resident: frozenset[int], block_bytes: int) -> list[Range]:
        """Blocks of at most so many bytes, or of one step; those that read nothing join others."""
        ranges: list[Range] = []
        begin, compute_s = 0, 0.0
        held = Held(self._extents)
        for place, step in enumerate(self._steps):
            new = [k for k in step.extents if k not in resident]
            if held.chosen and not held.chosen.issuperset(new):
                larger = held.copy()
                larger.add(new)
                if larger.bytes > block_bytes:
                    ranges.append(held.as_range(begin, place, compute_s))
                    begin, compute_s, held = place, 0.0, Held(self._extents)
                    held.add(new)
                else:
                    held = larger
            else:
                held.add(new)
            compute_s += step.compute_s
        ranges.append(held.as_range(begin, len(self._steps), compute_s))
        return ranges


def _pages(bytes_: int) -> int:
    return bytes_ // PAGE_BYTES * PAGE_BYTES
