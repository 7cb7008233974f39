"""What comparisons of policies share, live and simulated: bars, how utilities compare, plots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

from _plot import line_plot
from simulator.report import Summary

DEFAULT, RIVALS = "laxity", ("fixed", "window", "edf")
GAIN_BAR, VIOLATIONS_BAR, GOODPUT_BAR = 1.376, 0.01, 0.9
BAR_LOAD, OVERLOAD = 0.8, 2.0
# of a run, while queues reach their length
SETTLING = 0.2
# clients of one worker that are more than it can serve
CLIENTS = 24

# policy, load -> the summary of every round
Found = Mapping[tuple[str, float], Sequence[Summary]]


def over(ours: float, other: float) -> float:
    """How many times as good: 1 and the difference over the other's size, for it may be < 0."""
    return 1 + (ours - other) / abs(other)


def utility(found: Found, policy: str, loads: Iterable[float]) -> float:
    """The mean over loads of the median of the rounds."""
    return fmean(median(run.utility for run in found[policy, load]) for load in loads)


def plot(found: Found, title: str, paths: Mapping[str, Path]) -> None:
    """Utility and violations against load, each into its file."""
    labels = {"utility": "utility", "violations": "SLO violations, share of calls"}
    for of, label in labels.items():
        series: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for (policy, load), runs in sorted(found.items()):
            series[policy].append((load, median(getattr(run, of) for run in runs)))
        line_plot(paths[of], title, "load over capacity", label, series)
