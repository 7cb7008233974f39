"""The picture of a fused DAG: who runs what, laid out so that it can be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deploy.dag_layout import Lane
from deploy.dag_svg import BAND, BOX_HEIGHT, BOX_WIDTH, PALETTE, SHARED, Legend, svg
from deploy.drawing import Box, Drawing, draw, members_of
from deploy.drawing import fused as fused_members
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.merge import Merged
from tests.unit.deploy.conftest import Fusebox
from tests.unit.deploy.fake_gateway import FUNCTION, FakeGateway, problem

X = TensorSpec("x", "float32", (None, 4))
SVG = "{http://www.w3.org/2000/svg}"


def headed() -> Graph:
    """linear, relu, a view, then a head of its own; the kernel of the head is permuted first."""
    weights = (WeightSpec("w", "float32", (4, 4)), WeightSpec("h", "float32", (4, 2)))
    nodes = (
        Node("linear", (Ref("input", 0), Ref("weight", 0))),
        Node("relu", (Ref("node", 0),)),
        Node("sym_size.int", (Ref("input", 0), 0)),
        Node("view", (Ref("node", 1), (Ref("node", 2), 4))),
        Node("permute", (Ref("weight", 1), (1, 0))),
        Node("linear", (Ref("node", 3), Ref("node", 4))),
    )
    y = TensorSpec("y", "float32", (None, 2))
    return Graph((X,), weights, nodes, (Output(y, Ref("node", 5)),))


def shown(name: str, head: str, backbone: str = "same") -> dict[str, Any]:
    """What the platform says of a function of this graph."""
    graph = headed()
    return {
        "name": name,
        "version": 1,
        "architecture": graph.architecture,
        "graph": json.loads(graph.encode()),
        "weights": {"w": backbone, "h": head},
    }


def fused(functions: list[dict[str, Any]], is_apart: bool = False) -> Merged:
    """Of what the platform says."""
    return fused_members(members_of(functions), is_apart)


def titles(drawing: Drawing, *owners: int) -> list[str]:
    """Of the boxes of exactly these members."""
    return [box.title for box in drawing.boxes if box.owners == owners]


def test_a_function_alone_is_what_it_computes() -> None:
    """Views, row counts and permuted weights are left out, and arrows go past them."""
    drawing = draw(fused([shown("a", "a")]))
    assert [(box.kind, box.title, box.note) for box in drawing.boxes] == [
        ("input", "x", "[rows, 4]"),
        ("operator", "linear", "[4, 4]"),
        ("operator", "relu", ""),
        ("operator", "linear", "[4, 2]"),
        ("output", "y", "[rows, 2]"),
    ]
    assert drawing.arrows == ((0, 1), (1, 2), (2, 3), (3, 4))
    everything = draw(fused([shown("a", "a")]), is_whole=True)
    assert {"view", "permute", "sym_size"} <= {box.title for box in everything.boxes}


def test_what_is_shared_belongs_to_all() -> None:
    """Two heads on one backbone: inputs and heads are their own, the backbone runs once."""
    drawing = draw(fused([shown("a", "a"), shown("b", "b")]))
    assert titles(drawing, 0, 1) == ["cat", "linear", "relu", "split_with_sizes"]
    assert titles(drawing, 0) == ["x", "linear", "y"]
    assert titles(drawing, 1) == ["x", "linear", "y"]


def test_members_with_nothing_in_common_stand_side_by_side() -> None:
    """Each runs all of its own."""
    drawing = draw(fused([shown("a", "a", "one"), shown("b", "b", "other")]))
    assert titles(drawing, 0) == titles(drawing, 1) == ["x", "linear", "relu", "linear", "y"]
    assert titles(drawing, 0, 1) == []


def parsed(drawing: Drawing, *members: str, lanes: Sequence[Lane] = ()) -> ElementTree.Element:
    """The picture, read back."""
    legend = Legend("Fused <DAG>", members, ("measured",))
    return ElementTree.fromstring(svg(drawing, legend, lanes))


@pytest.mark.parametrize("backbones", ["111", "123", "112"])
def test_boxes_lie_apart_and_arrows_go_down(backbones: str) -> None:
    """Nothing overlaps, nothing is outside; whoever uses a result is below it."""
    members = [shown(name, name, backbone) for name, backbone in zip("abc", backbones, strict=True)]
    drawing = draw(fused(members), is_whole=True)
    root = parsed(drawing, "a", "b", "c")
    boxes = [
        (float(rect.get("x", "")), float(rect.get("y", "")))
        for group in root.iter(f"{SVG}g")
        for rect in group.iter(f"{SVG}rect")
    ]
    assert len(boxes) == len(drawing.boxes)
    for i, (x, y) in enumerate(boxes):
        assert 0 <= x <= float(root.get("width", "")) - BOX_WIDTH
        assert 0 <= y <= float(root.get("height", "")) - BOX_HEIGHT
        for other_x, other_y in boxes[:i]:
            assert abs(x - other_x) >= BOX_WIDTH or abs(y - other_y) >= BOX_HEIGHT
    assert all(boxes[source][1] < boxes[target][1] for source, target in drawing.arrows)
    assert len([*root.iter(f"{SVG}path")]) == len(drawing.arrows)


@pytest.mark.parametrize("shares", [((0, 2), (1,)), ((2, 1, 0),), ((0,), (1,), (2,))])
def test_members_of_a_lane_run_from_top_to_bottom(shares: tuple[tuple[int, ...], ...]) -> None:
    """Inside their lane's band, in order, under their names; lanes do not touch."""
    drawing = draw(fused([shown(name, name) for name in "abc"], is_apart=True))
    lanes = [Lane(f"thread {k}", members) for k, members in enumerate(shares)]
    root = parsed(drawing, "a", "b", "c", lanes=lanes)
    boxes = [
        (float(rect.get("x", "")), float(rect.get("y", "")))
        for group in root.iter(f"{SVG}g")
        for rect in group.iter(f"{SVG}rect")
    ]
    texts = {str(text.text): float(text.get("y", "")) for text in root.iter(f"{SVG}text")}
    bands = [rect for rect in root.findall(f"{SVG}rect") if rect.get("fill") == BAND]
    right = 0.0
    for band, lane in zip(bands, lanes, strict=True):
        left, width = float(band.get("x", "")), float(band.get("width", ""))
        assert right <= left
        right, bottom = left + width, float(band.get("y", ""))
        for member in lane.members:
            mine = [
                place
                for place, box in zip(boxes, drawing.boxes, strict=True)
                if box.owners == (member,)
            ]
            assert all(left <= x <= right - BOX_WIDTH for x, _ in mine)
            assert bottom <= texts["abc"[member]] <= min(y for _, y in mine)
            bottom = max(y for _, y in mine) + BOX_HEIGHT
        assert bottom <= float(band.get("y", "")) + float(band.get("height", ""))
        assert lane.title in texts
    assert right <= float(root.get("width", ""))


def test_members_are_told_apart_by_colour_and_named() -> None:
    """What runs once for several is dark; words of users are text, never markup."""
    root = parsed(draw(fused([shown("a", "a"), shown("b", "b")])), "<a>&", "b")
    fills = {rect.get("fill") for rect in root.iter(f"{SVG}rect")}
    assert {PALETTE[0], PALETTE[1], SHARED} <= fills
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Fused <DAG>", "<a>&", "b", "runs once for several", "measured"} <= set(texts)


def test_a_box_that_nothing_reaches_is_drawn() -> None:
    """An input nobody reads, an output that is a constant."""
    boxes = (Box("input", "x", "", ()), Box("output", "y", "", (0,)))
    root = parsed(Drawing(boxes, ()), "a")
    assert len([*root.iter(f"{SVG}g")]) == 2


@pytest.fixture
def two(gateway: FakeGateway) -> None:
    """Functions `a` and `b` that share a backbone, and were measured together."""
    for name in ("a", "b"):
        gateway.on("GET", f"/v1/functions/{name}/graph", (200, shown(name, name)))
        groups = {
            "a@1 x1 + b@1 x2": {
                "strategy": "prefix", "lanes": [["b@1"], ["a@1"]],
                "measured_ms": {"serial": 3, "prefix": 2, "branches": 2.5},
            },
            "a@1 x1": {"strategy": "serial", "measured_ms": {}, "lanes": []},
        }  # fmt: skip
        record = FUNCTION | {
            "name": name,
            "execution": {"tiers": {}, "groups": groups, "threads": 2, "row_ceiling": None},
        }
        gateway.on("GET", f"/v1/functions/{name}", (200, record))


@pytest.mark.usefixtures("two")
def test_the_verb_writes_the_picture(fusebox: Fusebox, tmp_path: Path) -> None:
    """With what was measured of this group, and not of others."""
    out = tmp_path / "dag.svg"
    result = fusebox("dag", "a", "b", "--out", str(out), "--json")
    assert json.loads(result.stdout) == {
        "out": str(out), "functions": ["a@1", "b@1"], "operators": 6, "shared": 4,
        "strategy": "prefix",
    }  # fmt: skip
    texts = [text.text for text in ElementTree.parse(out).getroot().iter(f"{SVG}text")]
    assert "Fused DAG of a@1, b@1" in texts
    assert "a@1 x1 + b@1 x2: prefix, 2 ms: 1.50 times as fast as serial" in texts
    assert "drawn: prefix, as one graph" in texts
    assert [text for text in texts if str(text).startswith("a@1 x1: ")] == []


@pytest.mark.usefixtures("two")
def test_another_strategy_can_be_drawn(fusebox: Fusebox, tmp_path: Path) -> None:
    """Side by side on the threads that ran them, b first; nothing is shared then."""
    out = tmp_path / "dag.svg"
    made = fusebox("dag", "a", "b", "--out", str(out), "--strategy", "branches", "--json")
    assert json.loads(made.stdout)["shared"] == 0
    texts = [text.text for text in ElementTree.parse(out).getroot().iter(f"{SVG}text")]
    names = [text for text in texts if text in ("a@1", "b@1", "thread 1", "thread 2")]
    assert names == ["a@1", "b@1", "thread 1", "b@1", "thread 2", "a@1"]
    assert "drawn: branches, as threads ran it; not what ran last" in texts


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("args", "code", "problem_text"),
    [
        (["a", "a"], 1, "expected different functions, got a@1 more than once"),
        (["a", "nope"], 3, "no function"),
        (["a", "--out", "missing-folder/dag.svg"], 1, "--out: missing-folder/dag.svg cannot"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    gateway: FakeGateway, fusebox: Fusebox, args: list[str], code: int, problem_text: str
) -> None:
    """In one line that names what is wrong."""
    unknown = problem(404, "unknown_function", "There is no function 'nope'.")
    gateway.on("GET", "/v1/functions/nope/graph", unknown)
    result = fusebox("dag", *args)
    assert result.exit_code == code
    assert problem_text in result.stderr


def test_a_graph_of_another_platform_is_refused(gateway: FakeGateway, fusebox: Fusebox) -> None:
    """A newer format, say."""
    record = shown("a", "a")
    record["graph"]["format"] = 999
    gateway.on("GET", "/v1/functions/a/graph", (200, record))
    gateway.on("GET", "/v1/functions/a", (200, FUNCTION))
    result = fusebox("dag", "a")
    assert result.exit_code == 1
    assert "a@1: its graph is not understood: " in result.stderr
