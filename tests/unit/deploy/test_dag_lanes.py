"""Which members a picture puts on which thread, and what it says of that."""

from __future__ import annotations

import pytest

from deploy.dag_lanes import Group, newest_group, plan, rows_of
from deploy.dag_layout import Lane
from deploy.errors import Undrawable
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec

REFS = ("a@1", "b@1", "c@1")


def of_depth(depth: int) -> Graph:
    """So many linear layers: the deeper, the more expensive."""
    x, y = TensorSpec("x", "float32", (None, 4)), TensorSpec("y", "float32", (None, 4))
    weights = tuple(WeightSpec(f"w{k}", "float32", (4, 4)) for k in range(depth))
    before = [Ref("input", 0), *(Ref("node", k) for k in range(depth))]
    nodes = tuple(Node("linear", (before[k], Ref("weight", k))) for k in range(depth))
    return Graph((x,), weights, nodes, (Output(y, before[-1]),))


GRAPHS = [of_depth(1), of_depth(9), of_depth(2)]


def test_a_group_is_found_by_its_functions() -> None:
    """The newest of those with exactly these, whatever their order and rows."""
    said = {"measured_ms": {}, "lanes": []}
    groups = {
        "a@1 x1 + b@1 x1": {"strategy": "serial", **said},
        "a@1 x2 + b@1 x4": {"strategy": "branches", **said},
        "a@1 x1 + b@1 x1 + c@1 x1": {"strategy": "prefix", **said},
    }
    assert newest_group(["b@1", "a@1"], groups) == Group({"a@1": 2, "b@1": 4}, "branches", [])
    assert newest_group(["a@1", "c@1"], groups) is None
    assert rows_of("x-1@12 x16") == {"x-1@12": 16}


def test_what_ran_is_drawn_as_it_ran() -> None:
    """Threads with their members in order; a thread without any is left out."""
    group = Group(dict.fromkeys(REFS, 1), "branches", [["c@1", "a@1"], ["b@1"], []])
    run = plan(REFS, GRAPHS, group, 3, None, has_shared=False)
    assert run.lanes == (Lane("thread 1", (2, 0)), Lane("thread 2", (1,)))
    assert run.remark == "drawn: branches, as threads ran it"


@pytest.mark.parametrize("group", [None, Group(dict.fromkeys(REFS, 1), "serial", [])])
def test_what_the_platform_does_not_tell_is_an_estimate(group: Group | None) -> None:
    """The most expensive has a thread to itself, and the picture says that it is a guess."""
    run = plan(REFS, GRAPHS, group, 2, "branches", has_shared=False)
    assert run.lanes == (Lane("thread 1", (1,)), Lane("thread 2", (2, 0)))
    assert "threads estimated" in run.remark


def test_rows_count_in_an_estimate() -> None:
    """Bytes of weights are read for every row."""
    group = Group({"a@1": 4096, "b@1": 1, "c@1": 1}, "serial", [])
    run = plan(REFS, GRAPHS, group, 2, "branches", has_shared=False)
    assert run.lanes[0] == Lane("thread 1", (0,))


@pytest.mark.parametrize(
    ("threads", "has_shared", "strategy", "lanes"),
    [(2, True, "prefix", 0), (2, False, "branches", 2), (1, False, "serial", 1)],
)
def test_before_they_have_run_the_most_promising_is_drawn(
    threads: int, has_shared: bool, strategy: str, lanes: int
) -> None:
    """And the picture says that nothing is known yet."""
    run = plan(REFS, GRAPHS, None, threads, None, has_shared)
    assert (run.strategy, len(run.lanes)) == (strategy, lanes)
    assert run.remark.endswith("; not run together yet")
    assert sorted(k for lane in run.lanes for k in lane.members) == ([0, 1, 2] if lanes else [])


def test_stacked_are_those_of_one_architecture() -> None:
    """What is left runs after them."""
    graphs = [of_depth(1), of_depth(2), of_depth(1)]
    run = plan(REFS, graphs, None, 2, "stack", has_shared=False)
    lanes = sorted(run.lanes, key=lambda lane: len(lane.members))
    assert lanes == [Lane("one after another", (1,)), Lane("stacked", (0, 2))]


@pytest.mark.parametrize(("strategy", "lanes"), [("graphs", 1), ("streams", 3), ("children", 3)])
def test_captured_members_have_streams(strategy: str, lanes: int) -> None:
    """One for all, or one each."""
    group = Group(dict.fromkeys(REFS, 1), strategy, [])
    run = plan(REFS, GRAPHS, group, 1, None, has_shared=False)
    assert len(run.lanes) == lanes
    assert sorted(k for lane in run.lanes for k in lane.members) == [0, 1, 2]
    assert run.remark.startswith(f"drawn: {strategy}, captured")


@pytest.mark.parametrize(
    ("asked", "threads", "problem"),
    [
        ("prefix", 2, "nothing in common"),
        ("branches", 1, "one thread"),
        ("stack", 2, "one architecture"),
    ],
)
def test_what_cannot_run_is_not_drawn(asked: str, threads: int, problem: str) -> None:
    """The message names the option."""
    with pytest.raises(Undrawable, match=f"--strategy: .*{problem}"):
        plan(REFS, GRAPHS, None, threads, asked, has_shared=False)
