"""Which strategy a group is drawn with, and which of its members each thread runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.dag_layout import Lane
from deploy.errors import Undrawable

if TYPE_CHECKING:
    from fusion.ir import Graph

SERIAL, PREFIX, STACK, BRANCHES = "serial", "prefix", "stack", "branches"
# captured on CUDA
GRAPHS, SIDE_BY_SIDE = "graphs", ("streams", "children")


class Group(NamedTuple):
    """Members that ran together, as the platform tells of them."""

    # by function
    rows: Mapping[str, int]
    strategy: str
    # functions by thread; empty where the platform has not tried them side by side
    lanes: Sequence[Sequence[str]]


class Run(NamedTuple):
    """How members are drawn to run; without lanes they are one graph."""

    strategy: str
    lanes: tuple[Lane, ...]
    remark: str


def newest_group(refs: Sequence[str], groups: Mapping[str, Any]) -> Group | None:
    """The latest group of exactly these functions; `groups` are those of GET /v1/functions/NAME."""
    found = None
    for name, group in groups.items():
        rows = rows_of(name)
        if sorted(rows) == sorted(refs):
            found = Group(rows, group["strategy"], group["lanes"])
    return found


def rows_of(group: str) -> dict[str, int]:
    """Functions and rows of a group's name, `a@1 x2 + b@1 x1`."""
    members = (member.split(" x") for member in group.split(" + "))
    return {ref: int(rows) for ref, rows in members}


def plan(
    refs: Sequence[str],
    graphs: Sequence[Graph],
    group: Group | None,
    threads: int,
    asked: str | None,
    has_shared: bool,
) -> Run:
    """How to draw members: as `asked`, as they ran, or as they could; raises Undrawable.

    `threads` is on how many the platform can run members side by side, `has_shared` whether they
    have anything in common that could be computed once.
    """
    if asked == PREFIX and not has_shared:
        raise Undrawable("--strategy: these functions have nothing in common to compute once")
    if asked == BRANCHES and threads < 2:
        raise Undrawable("--strategy: the platform runs on one thread: nothing is side by side")
    if asked == STACK and not _architectures(graphs)[0]:
        raise Undrawable("--strategy: no two of these functions have one architecture")
    strategy = asked or (group.strategy if group else _expected(threads, has_shared))
    if strategy == BRANCHES:
        lanes, is_estimated = _branches(refs, graphs, group, threads)
        how = "threads estimated by weights and operators" if is_estimated else "as threads ran it"
    else:
        lanes, how = _alone_on_the_device(strategy, graphs)
    is_known = group is not None and group.strategy == strategy
    state = "" if is_known else "; not what ran last" if group else "; not run together yet"
    return Run(strategy, lanes, f"drawn: {strategy}, {how}{state}")


def _expected(threads: int, has_shared: bool) -> str:
    """Before anything is measured, when all of them are tried: what most could be gained by."""
    return PREFIX if has_shared else BRANCHES if threads > 1 else SERIAL


def _alone_on_the_device(strategy: str, graphs: Sequence[Graph]) -> tuple[tuple[Lane, ...], str]:
    """Lanes of what needs no estimate, and what they are."""
    order = _in_order(graphs)
    if strategy == SERIAL:
        return (Lane("all threads", order),), "one after another"
    if strategy == STACK:
        alike, others = _architectures(graphs)
        lanes = [Lane("stacked", members) for members in alike]
        if others:
            lanes.append(Lane("one after another", others))
        return tuple(lanes), "one product for all members of one architecture"
    if strategy == GRAPHS:
        return (Lane("stream", order),), "captured, one after another"
    if strategy in SIDE_BY_SIDE:
        lanes = [Lane(f"stream {k + 1}", (member,)) for k, member in enumerate(order)]
        return tuple(lanes), "captured side by side"
    return (), "as one graph"


def _architectures(graphs: Sequence[Graph]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Members that share an architecture, and those that share theirs with nobody."""
    alike: dict[str, list[int]] = {}
    for k in _in_order(graphs):
        alike.setdefault(graphs[k].architecture, []).append(k)
    shared = [tuple(members) for members in alike.values() if len(members) > 1]
    return shared, tuple(members[0] for members in alike.values() if len(members) == 1)


def _branches(
    refs: Sequence[str], graphs: Sequence[Graph], group: Group | None, threads: int
) -> tuple[tuple[Lane, ...], bool]:
    """Lanes, and whether they are an estimate."""
    if group is not None and group.lanes:
        shares = [[refs.index(ref) for ref in lane] for lane in group.lanes]
    else:
        shares = _estimated(refs, graphs, group, threads)
    lanes = [Lane(f"thread {k + 1}", tuple(members)) for k, members in enumerate(shares) if members]
    return tuple(lanes), not (group and group.lanes)


def _estimated(
    refs: Sequence[str], graphs: Sequence[Graph], group: Group | None, threads: int
) -> list[list[int]]:
    from fusion.dag import estimated_cost  # torch
    from fusion.strategies.branches import spread

    rows = group.rows if group else dict.fromkeys(refs, 1)
    order = _in_order(graphs)
    shares = spread([estimated_cost(graphs[k], rows[refs[k]]) for k in order], threads)
    return [[order[k] for k in share] for share in shares]


def _in_order(graphs: Sequence[Graph]) -> tuple[int, ...]:
    """As a fused DAG holds its members."""
    return tuple(sorted(range(len(graphs)), key=lambda k: graphs[k].architecture))
