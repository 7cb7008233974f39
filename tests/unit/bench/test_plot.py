"""Plots for the docs."""

from __future__ import annotations

from pathlib import Path

from bench._plot import line_plot


def test_the_same_points_give_the_same_file(tmp_path: Path) -> None:
    """So that a plot made again changes where its points do, and its text can be searched."""
    made = []
    for name in ("one.svg", "two.svg"):
        line_plot(
            tmp_path / name, "a title", "room", "rate", {"a": [(2, 3.0), (1, 2.0)], "b": [(1, 1)]}
        )
        made.append((tmp_path / name).read_text())
    assert made[0] == made[1]
    for text in ("a title", "room", "rate"):
        assert text in made[0]
