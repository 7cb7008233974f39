"""A drawing as SVG: layers from top to bottom, laid out by igraph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple
from xml.sax.saxutils import escape

from deploy.drawing import Box, Drawing

# Okabe and Ito's colours: told apart by the colour-blind too. Members beyond them begin again.
PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
SHARED = "#444444"
# pixels
BOX_WIDTH, BOX_HEIGHT = 128, 38
COLUMN, LAYER = BOX_WIDTH + 16, BOX_HEIGHT + 26
MARGIN = 24
LEGEND_LINE = 22
# of text in a box
TITLE_CHARS, NOTE_CHARS = 16, 22


class Legend(NamedTuple):
    """What stands above the picture."""

    title: str
    # per member
    members: tuple[str, ...]
    # what is known beside, a line each
    remarks: tuple[str, ...] = ()


class _Point(NamedTuple):
    x: float
    y: float


def svg(drawing: Drawing, legend: Legend) -> str:
    """The drawing as a document of its own."""
    lines = [legend.title, *legend.members, *legend.remarks]
    is_shared = any(len(box.owners) > 1 for box in drawing.boxes)
    top = MARGIN + LEGEND_LINE * (len(lines) + is_shared) + MARGIN
    paths = _lay_out(drawing, top)
    points = [path[0] for path in paths.boxes]
    widest = max(len(line) for line in lines) * 8 + 60
    width = max(max(point.x for point in points) + BOX_WIDTH / 2 + MARGIN, widest)
    height = max(point.y for point in points) + BOX_HEIGHT / 2 + MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        f"<title>{escape(legend.title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(legend, is_shared),
        *(_arrow(path) for path in paths.arrows),
        *(_box(box, point) for box, point in zip(drawing.boxes, points, strict=True)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Paths(NamedTuple):
    # one point each
    boxes: list[list[_Point]]
    # from box to box
    arrows: list[list[_Point]]


def _lay_out(drawing: Drawing, top: float) -> _Paths:
    """Where everything lies; an arrow over several layers has a point in each."""
    import igraph

    layers = _layers(drawing)
    edges: list[tuple[int, int]] = []
    ways: list[list[int]] = []
    for source, target in drawing.arrows:
        passed = range(layers[source] + 1, layers[target])
        places = [len(layers) + k for k in range(len(passed))]
        layers += passed
        way = [source, *places, target]
        edges += pairwise(way)
        ways.append(way)
    graph = igraph.Graph(n=len(layers), edges=edges, directed=True)
    columns = [0.0] * len(layers)
    left = 0.0
    # igraph would lay parts without an arrow between them over each other
    for part in graph.connected_components(mode="weak"):
        inside = [layers[place] for place in part]
        found = graph.induced_subgraph(part).layout_sugiyama(layers=inside, hgap=1, vgap=1)
        xs = _apart([x for x, _ in found], inside)
        for place, x in zip(part, xs, strict=True):
            columns[place] = left + x - min(xs)
        left += max(xs) - min(xs) + 1
    points = [
        _Point(MARGIN + BOX_WIDTH / 2 + column * COLUMN, top + BOX_HEIGHT / 2 + layer * LAYER)
        for column, layer in zip(columns, layers, strict=True)
    ]
    boxes = [[points[k]] for k in range(len(drawing.boxes))]
    return _Paths(boxes, [[points[k] for k in way] for way in ways])


def _apart(xs: Sequence[float], layers: Sequence[int]) -> list[float]:
    """At least 1 between those of a layer: igraph may centre two at half of that."""
    moved = list(xs)
    last: dict[int, float] = {}
    for place in sorted(range(len(xs)), key=lambda k: xs[k]):
        layer = layers[place]
        moved[place] = max(xs[place], last.get(layer, -inf) + 1)
        last[layer] = moved[place]
    return moved


def _layers(drawing: Drawing) -> list[int]:
    """Per box the longest way to it; inputs move down to their first use."""
    layers = [0] * len(drawing.boxes)
    for source, target in drawing.arrows:  # sources come before targets
        layers[target] = max(layers[target], layers[source] + 1)
    for place, box in enumerate(drawing.boxes):
        uses = [layers[target] for source, target in drawing.arrows if source == place]
        if box.kind == "input" and uses:
            layers[place] = min(uses) - 1
    return layers


def _legend(legend: Legend, is_shared: bool) -> list[str]:
    y = MARGIN
    parts = [f'<text x="{MARGIN}" y="{y + 4}" font-weight="600">{escape(legend.title)}</text>']
    entries = [(PALETTE[k % len(PALETTE)], name) for k, name in enumerate(legend.members)]
    if is_shared:
        entries.append((SHARED, "runs once for several"))
    for colour, name in entries:
        y += LEGEND_LINE
        parts.append(f'<rect x="{MARGIN}" y="{y - 9}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{MARGIN + 22}" y="{y + 3}">{escape(name)}</text>')
    for remark in legend.remarks:
        y += LEGEND_LINE
        parts.append(f'<text x="{MARGIN}" y="{y + 3}" fill="#555555">{escape(remark)}</text>')
    return parts


def _arrow(points: Sequence[_Point]) -> str:
    """A smooth way from the bottom of a box to the top of another."""
    first, *passed, last = points
    x, y = first.x, first.y + BOX_HEIGHT / 2
    way = [f"M{x:.1f} {y:.1f}"]
    for point in [*passed, _Point(last.x, last.y - BOX_HEIGHT / 2)]:
        middle = (y + point.y) / 2
        way.append(f"C{x:.1f} {middle:.1f} {point.x:.1f} {middle:.1f} {point.x:.1f} {point.y:.1f}")
        x, y = point
    return f'<path d="{" ".join(way)}" fill="none" stroke="#999999" stroke-width="1.2"/>'


def _box(box: Box, point: _Point) -> str:
    colour = _colour(box)
    x, y = point.x - BOX_WIDTH / 2, point.y - BOX_HEIGHT / 2
    radius = 4 if box.kind == "operator" else BOX_HEIGHT / 2
    fill = colour if box.kind == "operator" else "#ffffff"
    ink = "#ffffff" if fill == SHARED else "#111111"
    title_y = point.y + (-1 if box.note else 4)
    tip = escape(f"{box.title} {box.note}".strip())
    place = f'x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="{radius:g}"'
    parts = [
        f"<g><title>{tip}</title>",
        f'<rect {place} fill="{fill}" stroke="{colour}" stroke-width="2"/>',
        _text(point.x, title_y, ink, 13, _cut(box.title, TITLE_CHARS)),
    ]
    if box.note:
        parts.append(_text(point.x, point.y + 13, ink, 10, _cut(box.note, NOTE_CHARS)))
    return "".join([*parts, "</g>"])


def _text(x: float, y: float, ink: str, size: int, text: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{size}"'
    return f'<text {place} fill="{ink}">{escape(text)}</text>'


def _colour(box: Box) -> str:
    if len(box.owners) == 1:
        return PALETTE[box.owners[0] % len(PALETTE)]
    return SHARED


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
