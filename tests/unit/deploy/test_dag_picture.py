"""The picture of a fused DAG: who runs what, laid out so that it can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deploy.dag_svg import BOX_HEIGHT, BOX_WIDTH, PALETTE, SHARED, Legend, svg
from deploy.drawing import Box, Drawing, draw, fused
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
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


def parsed(drawing: Drawing, *members: str) -> ElementTree.Element:
    """The picture, read back."""
    return ElementTree.fromstring(svg(drawing, Legend("Fused <DAG>", members, ("measured",))))


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
            "a@1 x1 + b@1 x2": {"strategy": "prefix", "measured_ms": {"serial": 3, "prefix": 2}},
            "a@1 x1": {"strategy": "serial", "measured_ms": {}},
        }
        record = FUNCTION | {"name": name, "execution": {"tiers": {}, "groups": groups}}
        gateway.on("GET", f"/v1/functions/{name}", (200, record))


@pytest.mark.usefixtures("two")
def test_the_verb_writes_the_picture(fusebox: Fusebox, tmp_path: Path) -> None:
    """With what was measured of this group, and not of others."""
    out = tmp_path / "dag.svg"
    result = fusebox("dag", "a", "b", "--out", str(out), "--json")
    assert json.loads(result.stdout) == {
        "out": str(out), "functions": ["a@1", "b@1"], "operators": 6, "shared": 4,
    }  # fmt: skip
    texts = [text.text for text in ElementTree.parse(out).getroot().iter(f"{SVG}text")]
    assert "Fused DAG of a@1, b@1" in texts
    assert "a@1 x1 + b@1 x2: prefix, 2 ms: 1.50 times as fast as serial" in texts
    assert [text for text in texts if str(text).startswith("a@1 x1: ")] == []


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
