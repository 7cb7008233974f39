"""Plots for docs/images: lines with markers, as SVG or PNG by the name of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Series = Mapping[str, Sequence[tuple[float, float]]]


def line_plot(
    path: str | Path, title: str, x_label: str, y_label: str, series: Series, log_x: bool = False
) -> None:
    """One line per name through its (x, y) points; the y axis begins at 0.

    The same points give the same file.
    """
    import matplotlib  # a second to import, which only those who plot take

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # text stays text; ids and the date would differ from run to run
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fusebox"}):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        for name, points in series.items():
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, marker="o", label=name)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.set_ylim(0, 1.1 * max(y for points in series.values() for _, y in points))
        if log_x:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend()
        is_svg = Path(path).suffix == ".svg"
        figure.savefig(path, metadata={"Date": None} if is_svg else None)
        plt.close(figure)


def scatter_plot(path: str | Path, title: str, x_label: str, y_label: str, series: Series) -> None:
    """Points of each name on logarithmic axes, with the line on which y is x.

    The same points give the same file.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fusebox"}):
        figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
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
        is_svg = Path(path).suffix == ".svg"
        figure.savefig(path, metadata={"Date": None} if is_svg else None)
        plt.close(figure)
