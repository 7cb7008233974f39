"""A profile for the simulator, from runs on a platform."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from _live import Played, Ran, Told
from simulator import Delays, FunctionProfile, Profile
from simulator.profiles import Bandwidth, Draw, Samples

# of a kind, evenly from the sorted ones: enough for a tail, little enough for a file
MOST_SAMPLES = 100
# of the time from acceptance to the worker on an idle platform, as the loop's steps were traced
DECIDE, CLAIM = 0.2, 0.3


def functions(
    alone: Iterable[Told],
    slos_s: Mapping[str, float],
    timeouts_s: Mapping[str, float],
    manifests: Mapping[str, Mapping[str, int]],
) -> dict[str, FunctionProfile]:
    """Functions by what calls took that had the platform to themselves."""
    times: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in alone:
        if one.status == 200:
            seconds = one.timings_ms["compute"] / 1e3
            times[one.call.function][one.call.rows].append(seconds)
    return {
        name: FunctionProfile(
            {rows: fewer(samples) for rows, samples in sorted(by_rows.items())},
            slos_s[name],
            timeouts_s[name],
            **manifests[name],
        )
        for name, by_rows in times.items()
    }


def together(made: Mapping[str, FunctionProfile], groups: Iterable[Ran]) -> dict[int, Samples]:
    """Group time over the sum of its members' times alone, by number of members."""
    import random

    draw = Draw(Profile(made), random.Random(0))
    ratios: defaultdict[int, list[float]] = defaultdict(list)
    for group in groups:
        if group.members and group.compute_s:
            alone_s = sum(draw.mean_s(name, rows) for name, rows in group.members)
            ratios[len(group.members)].append(group.compute_s / alone_s)
    return {count: fewer(found) for count, found in sorted(ratios.items())}


def builds(groups: Iterable[Ran]) -> dict[int, Samples]:
    """What making fused DAGs took, by number of members."""
    found: defaultdict[int, list[float]] = defaultdict(list)
    for group in groups:
        if group.build_s:
            found[len(group.members)].append(group.build_s)
    return {count: fewer(samples) for count, samples in sorted(found.items())}


def delays(idle: Sequence[Told], busy: Sequence[Told]) -> Delays:
    """The way of a job: on an idle platform what the scheduler takes, under load the rest.

    What a client waits beyond the platform's own total lies half before, half after; what the total
    has beyond its stages is settling. The way to the worker is the queue of an idle platform, of
    which the scheduler's loop has fixed shares.
    """
    queue_s = [one.timings_ms["queue"] / 1e3 for one in idle if one.status == 200]
    outside_s = [one.latency_s - one.timings_ms["total"] / 1e3 for one in busy if one.status == 200]
    settle_s = [_unaccounted_s(one) for one in busy if one.status == 200]
    halves = fewer([max(0.0, value) / 2 for value in outside_s])
    way_s = median(queue_s)
    return Delays(
        accept_s=halves,
        decide_s=(DECIDE * way_s,),
        claim_s=(CLAIM * way_s,),
        send_s=fewer([(1 - DECIDE - CLAIM) * value for value in queue_s]),
        settle_s=fewer(settle_s),
        answer_s=halves,
    )


def profile(
    alone: Played,
    calibration: Played,
    slos_s: Mapping[str, float],
    timeouts_s: Mapping[str, float],
    manifests: Mapping[str, Mapping[str, int]],
) -> Profile:
    """Of calls one by one at several rows, and of a run under load."""
    made = functions(alone.told, slos_s, timeouts_s, manifests)
    idle = [one for one in alone.told if one.call.rows == 1]
    return Profile(
        made,
        delays(idle, calibration.told),
        Bandwidth(),
        together(made, calibration.groups),
        builds([*alone.groups, *calibration.groups]),
    )


def fewer(samples: Sequence[float]) -> Samples:
    """Samples with the same quantiles, at most so many."""
    ordered = sorted(samples)
    if len(ordered) > MOST_SAMPLES:
        step = len(ordered) / MOST_SAMPLES
        ordered = [ordered[int((k + 0.5) * step)] for k in range(MOST_SAMPLES)]
    return tuple(round(value, 6) for value in ordered)


def _unaccounted_s(one: Told) -> float:
    stages = ("queue", "swap", "build", "compute", "hooks")
    rest_ms = one.timings_ms["total"] - sum(one.timings_ms[stage] for stage in stages)
    return max(0.0, rest_ms) / 1e3
