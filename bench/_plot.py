"""Plots for docs/images: lines with markers, bars in lanes; SVG or PNG by the file's name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Series = Mapping[str, Sequence[tuple[float, float]]]


def line_plot(
    path: str | Path, title: str, x_label: str, y_label: str, series: Series, log_x: bool = False
) -> None:
    """One line per name through its (x, y) points; the y axis begins at 0, unless some are below.

    The same points give the same file.
    """
    with _axes(path) as axes:
        for name, points in series.items():
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, marker="o", label=name)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        values = [y for points in series.values() for _, y in points]
        axes.set_ylim(min(0.0, 1.1 * min(values)), 1.1 * max(*values, 0.01))
        if log_x:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend()


def bar_plot(
    path: str | Path,
    title: str,
    x_label: str,
    names: Sequence[str],
    bars: Iterable[tuple[float, float, Collection[str]]],
) -> None:
    """A lane per name; each bar (begin, length, names) lies in the lanes of its names."""
    with _axes(path) as axes:
        for number, (begin, length, members) in enumerate(bars):
            for name in members:
                axes.barh(names.index(name), length, left=begin, color=f"C{number % 10}")
        axes.set(title=title, xlabel=x_label, yticks=range(len(names)), yticklabels=names)
        axes.grid(alpha=0.3, axis="x")


def scatter_plot(path: str | Path, title: str, x_label: str, y_label: str, series: Series) -> None:
    """Points of each name on logarithmic axes, with the line on which y is x.

    The same points give the same file.
    """
    with _axes(path) as axes:
        for name, points in series.items():
            if points:
                axes.scatter(*zip(*points, strict=True), s=8, alpha=0.4, label=name)
        every = [value for points in series.values() for point in points for value in point]
        if every:
            ends = (min(every), max(every))
            axes.plot(ends, ends, color="black", linewidth=0.8)
        axes.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()


@contextmanager
def _axes(path: str | Path) -> Iterator[Any]:
    """Axes of a figure that is written at the end."""
    import matplotlib  # a second to import, which only those who plot take

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # text stays text; ids and the date would differ from run to run
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fusebox"}):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        try:
            yield axes
            is_svg = Path(path).suffix == ".svg"
            figure.savefig(path, metadata={"Date": None} if is_svg else None)
        finally:
            plt.close(figure)
