"""Where the boxes of a drawing lie, in columns and layers; layers by igraph, from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from deploy.drawing import Drawing

# least distances of neighbours of a layer, in columns: of centres of boxes and arrows that pass
BOXES, BOX_ARROW, ARROWS = 1.0, 0.62, 0.2
# between two lanes, in columns; above each member of a lane, in layers
LANE_GAP, NAME_LAYERS = 0.4, 0.8


class Lane(NamedTuple):
    """What one thread runs: members, one after another from top to bottom."""

    title: str
    members: tuple[int, ...]


class Place(NamedTuple):
    """The centre of a box, or a point of an arrow; neighbours lie 1 apart."""

    column: float
    layer: float


class Band(NamedTuple):
    """The columns of a lane, and the layer in which each of its members is named."""

    title: str
    left: float
    right: float
    names: tuple[tuple[int, float], ...]


class Layout(NamedTuple):
    """A place per box, the places of an arrow from box to box, a band per lane."""

    boxes: list[Place]
    arrows: list[list[Place]]
    bands: list[Band]


class _Part(NamedTuple):
    """Boxes laid out by themselves, the first at column and layer 0."""

    places: dict[int, Place]
    # of the drawing's arrows, by their place there
    ways: dict[int, list[Place]]
    columns: float
    layers: float


def lay_out(drawing: Drawing, lanes: Sequence[Lane] = ()) -> Layout:
    """Members of a lane below each other, lanes beside each other; without lanes all in one."""
    boxes: dict[int, Place] = {}
    arrows: dict[int, list[Place]] = {}

    def put(part: _Part, left: float, top: float) -> None:
        boxes.update({k: _moved(place, left, top) for k, place in part.places.items()})
        for k, way in part.ways.items():
            arrows[k] = [_moved(place, left, top) for place in way]

    if not lanes:
        put(_part(drawing, range(len(drawing.boxes))), 0.0, 0.0)
    bands = []
    left = 0.0
    for lane in lanes:
        parts = [_part(drawing, _of(drawing, member)) for member in lane.members]
        columns = max((part.columns for part in parts), default=1.0)
        names, top = [], 0.0
        for member, part in zip(lane.members, parts, strict=True):
            names.append((member, top))
            top += NAME_LAYERS
            put(part, left + (columns - part.columns) / 2, top)
            top += part.layers
        bands.append(Band(lane.title, left, left + columns, tuple(names)))
        left += columns + LANE_GAP
    return Layout(
        [boxes[k] for k in range(len(drawing.boxes))],
        [arrows[k] for k in range(len(drawing.arrows))],
        bands,
    )


def _of(drawing: Drawing, member: int) -> list[int]:
    """Boxes of a member; nobody's are the first member's."""
    return [k for k, box in enumerate(drawing.boxes) if (box.owners or (0,)) == (member,)]


def _moved(place: Place, left: float, top: float) -> Place:
    return Place(place.column + left, place.layer + top)


def _part(drawing: Drawing, chosen: Iterable[int]) -> _Part:
    """An arrow over several layers has a place in each, so that it goes past boxes."""
    import igraph

    boxes = list(chosen)
    index = {box: k for k, box in enumerate(boxes)}
    mine = {
        k: (index[source], index[target])
        for k, (source, target) in enumerate(drawing.arrows)
        if source in index and target in index
    }
    kinds = [drawing.boxes[box].kind for box in boxes]
    layers = _layers(kinds, list(mine.values()))
    edges: list[tuple[int, int]] = []
    ways: dict[int, list[int]] = {}
    for k, (source, target) in mine.items():
        passed = range(layers[source] + 1, layers[target])
        way = [source, *(len(layers) + j for j in range(len(passed))), target]
        layers += passed
        edges += pairwise(way)
        ways[k] = way
    graph = igraph.Graph(n=len(layers), edges=edges, directed=True)
    columns = [0.0] * len(layers)
    left = 0.0
    # igraph would lay parts without an arrow between them over each other
    for part in graph.connected_components(mode="weak"):
        inside = [layers[place] for place in part]
        found = graph.induced_subgraph(part).layout_sugiyama(layers=inside, hgap=1, vgap=1)
        is_box = [place < len(boxes) for place in part]
        xs = _compact([x for x, _ in found], inside, is_box)
        for place, x in zip(part, xs, strict=True):
            columns[place] = left + x
        left += max(xs) + 1
    places = [Place(*pair) for pair in zip(columns, layers, strict=True)]
    return _Part(
        {box: places[k] for box, k in index.items()},
        {k: [places[j] for j in way] for k, way in ways.items()},
        left,
        max(layers, default=-1) + 1,
    )


def _compact(xs: Sequence[float], layers: Sequence[int], is_box: Sequence[bool]) -> list[float]:
    """As far left as neighbours allow; what lies below each other stays so.

    igraph gives an arrow that passes as much room as a box, and may centre two boxes too near.
    """
    moved: dict[float, float] = {}
    # per layer its last, by column and kind
    last: dict[int, tuple[float, bool]] = {}
    least = 0.0
    for x in sorted(set(xs)):
        here = [k for k, its in enumerate(xs) if its == x]
        for k in here:
            if layers[k] in last:
                before, was_box = last[layers[k]]
                least = max(least, moved[before] + _distance(was_box, is_box[k]))
        moved[x] = least
        last.update({layers[k]: (x, is_box[k]) for k in here})
    return [moved[x] for x in xs]


def _distance(one_is_box: bool, other_is_box: bool) -> float:
    if one_is_box and other_is_box:
        return BOXES
    return BOX_ARROW if one_is_box or other_is_box else ARROWS


def _layers(kinds: Sequence[str], arrows: Sequence[tuple[int, int]]) -> list[int]:
    """Per box the longest way to it; inputs move down to their first use."""
    layers = [0] * len(kinds)
    for source, target in arrows:  # sources come before targets
        layers[target] = max(layers[target], layers[source] + 1)
    for place, kind in enumerate(kinds):
        uses = [layers[target] for source, target in arrows if source == place]
        if kind == "input" and uses:
            layers[place] = min(uses) - 1
    return layers
