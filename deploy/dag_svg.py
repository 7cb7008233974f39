"""A drawing as SVG: from top to bottom what runs after each other, lanes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from deploy.dag_layout import NAME_LAYERS, Band, Lane, Place, lay_out
from deploy.drawing import Box, Drawing

# Okabe and Ito's colours: told apart by the colour-blind too. Members beyond them begin again.
PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
SHARED = "#444444"
BAND = "#f1f2f4"
# pixels
BOX_WIDTH, BOX_HEIGHT = 128, 38
COLUMN, LAYER = BOX_WIDTH + 16, BOX_HEIGHT + 26
MARGIN = 24
LEGEND_LINE = 22
# a lane: its title, what it is wider than its boxes, from a member's name to its first box
LANE_HEAD, BAND_EDGE, NAME_ABOVE = 30, 10, 10
CHAR_WIDTH = 7.5
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


def svg(drawing: Drawing, legend: Legend, lanes: Sequence[Lane] = ()) -> str:
    """The drawing as a document of its own; members in lanes share no boxes."""
    lines = [legend.title, *legend.members, *legend.remarks]
    is_shared = any(len(box.owners) > 1 for box in drawing.boxes)
    top = MARGIN + LEGEND_LINE * (len(lines) + is_shared) + MARGIN + (LANE_HEAD if lanes else 0)
    layout = lay_out(drawing, lanes)
    points = [_point(place, top) for place in layout.boxes]
    widest = max(len(line) for line in lines) * 8 + 60
    right = max([point.x + BOX_WIDTH / 2 for point in points] + [_x(b.right) for b in layout.bands])
    width = max(right + MARGIN, widest)
    height = max(point.y for point in points) + BOX_HEIGHT / 2 + MARGIN + (MARGIN if lanes else 0)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        f"<title>{escape(legend.title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(legend, is_shared),
        *(_band(band, top, height - MARGIN, legend.members) for band in layout.bands),
        *(_arrow([_point(place, top) for place in way]) for way in layout.arrows),
        *(_box(box, point) for box, point in zip(drawing.boxes, points, strict=True)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(column: float) -> float:
    """The left edge of a box in this column."""
    return MARGIN + column * COLUMN


def _point(place: Place, top: float) -> _Point:
    return _Point(_x(place.column) + BOX_WIDTH / 2, top + BOX_HEIGHT / 2 + place.layer * LAYER)


def _band(band: Band, top: float, bottom: float, members: Sequence[str]) -> str:
    """A lane behind its members, with its title and their names."""
    x, y = _x(band.left) - BAND_EDGE, top - LANE_HEAD
    width = _x(band.right) - (COLUMN - BOX_WIDTH) + BAND_EDGE - x
    chars = int((width - 2 * BAND_EDGE) / CHAR_WIDTH)
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{bottom - y:.1f}" rx="8"'
    left = f'x="{x + BAND_EDGE:.1f}"'
    parts = [
        f'<rect {place} fill="{BAND}"/>',
        f'<text {left} y="{y + 20:.1f}" font-weight="600">{escape(_cut(band.title, chars))}</text>',
    ]
    for member, layer in band.names:
        name_y = top + (layer + NAME_LAYERS) * LAYER - NAME_ABOVE
        name = escape(_cut(members[member], chars))
        parts.append(f'<text {left} y="{name_y:.1f}" fill="#333333">{name}</text>')
    return "".join(parts)


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
