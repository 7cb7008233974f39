"""A profile for the simulator, from runs on a platform."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from statistics import median

from _live import Played, Ran, Told
from simulator import Delays, FunctionProfile, Profile
from simulator.pace import estimated
from simulator.profiles import Bandwidth, Draw, Samples
from simulator.recorded import Slower

# of a kind, evenly from the sorted ones: enough for a tail, little enough for a file
MOST_SAMPLES = 100
# What the scheduler does one after another, for no clock of a job's way stands between: all that
# its process does for a group of eight jobs, from reading them to learning from its report
# (`bench/dispatching.py`), a move that claims and sends, and each group's part of it
# (`bench/claiming.py`). The rest of the way to the worker is recorded.
DECIDE_S, CLAIM_S, MESSAGE_S = 0.0005, 0.00011, 0.0001
# of a job, by the clocks of those it passes
WAY = ("accept_s", "send_s", "settle_s", "answer_s")


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
    found: defaultdict[int, list[float]] = defaultdict(list)
    for group, ratio in ratios(made, groups):
        found[len(group.members)].append(ratio)
    return {count: fewer(samples) for count, samples in sorted(found.items())}


def ratios(
    made: Mapping[str, FunctionProfile], groups: Iterable[Ran]
) -> Iterator[tuple[Ran, float]]:
    """Groups that computed, and their time over the sum of their members' times alone."""
    draw = Draw(Profile(made), Random(0))
    for group in groups:
        if group.members and group.compute_s:
            alone_s = sum(draw.mean_s(name, rows) for name, rows in group.members)
            yield group, (group.ended_s - group.began_s - group.build_s) / alone_s


def builds(groups: Iterable[Ran]) -> dict[int, Samples]:
    """What making fused DAGs took, by number of members."""
    found: defaultdict[int, list[float]] = defaultdict(list)
    for group in groups:
        if group.build_s:
            found[len(group.members)].append(group.build_s)
    return {count: fewer(samples) for count, samples in sorted(found.items())}


def delays(busy: Iterable[Played]) -> Delays:
    """The way of a job under load, by the clocks of those it passes."""
    found: dict[str, list[float]] = {name.removesuffix("_s"): [] for name in WAY}
    for played in busy:
        # those that computed
        groups = {group.group: group for group in played.groups if group.members}
        staging = _staging(groups.values())
        claimed_s = {way.group: way.claimed_s for way in played.ways.values()}
        for name, group in groups.items():
            found["settle"].append(group.reported_s - group.ended_s)
            if name in staging and name in claimed_s:
                sent_s = group.taken_s - claimed_s[name] - CLAIM_S - MESSAGE_S
                found["send"].append(sent_s + staging[name])
        for one in played.told:
            way = played.ways.get(one.job)
            if way is not None and way.group in groups:
                ended_s = one.sent_s + one.latency_s
                found["accept"].append(way.accepted_s - one.sent_s)
                found["answer"].append(ended_s - groups[way.group].reported_s)
    samples = {
        f"{name}_s": fewer([max(0.0, value) for value in values]) for name, values in found.items()
    }
    way = {"decide_s": (DECIDE_S,), "claim_s": (CLAIM_S,), "message_s": (MESSAGE_S,)}
    return Delays(**way, **samples)


def _staging(groups: Iterable[Ran]) -> dict[str, float]:
    """From a worker's taking of a group until it was ready, where the device was free by then."""
    free_s, found = 0.0, {}
    for group in sorted(groups, key=lambda group: group.began_s):
        if free_s <= group.taken_s:
            found[group.group] = group.began_s - group.taken_s
        free_s = group.ended_s
    return found


def profile(
    alone: Played,
    calibration: Sequence[Played],
    slos_s: Mapping[str, float],
    timeouts_s: Mapping[str, float],
    manifests: Mapping[str, Mapping[str, int]],
) -> Profile:
    """Of calls one by one at several rows, and of runs under load."""
    made = functions(alone.told, slos_s, timeouts_s, manifests)
    groups = [group for played in calibration for group in played.groups]
    # in order of time, which the samples are not
    paces = [
        [(group.began_s, ratio) for group, ratio in ratios(made, played.groups)]
        for played in calibration
    ]
    return Profile(
        made,
        delays(calibration),
        Bandwidth(),
        together(made, groups),
        builds([*alone.groups, *groups]),
        estimated(paces),
    )


def slower(made: Profile, played: Played) -> Slower:
    """How much longer than the profile says the groups of a run took, and its ways: medians."""
    usual = {count: median(samples) for count, samples in made.together.items()}
    compute = [
        ratio / usual[len(group.members)]
        for group, ratio in ratios(made.functions, played.groups)
        if len(group.members) in usual
    ]
    of_run, of_profile = delays([played]), made.delays
    ways = [
        sum(median(getattr(its, name)) for name in WAY if getattr(its, name))
        for its in (of_run, of_profile)
    ]
    return Slower(median(compute) if compute else 1.0, ways[0] / ways[1] if ways[1] else 1.0)


def fewer(samples: Sequence[float]) -> Samples:
    """Samples with the same quantiles, at most so many."""
    ordered = sorted(samples)
    if len(ordered) > MOST_SAMPLES:
        step = len(ordered) / MOST_SAMPLES
        ordered = [ordered[int((k + 0.5) * step)] for k in range(MOST_SAMPLES)]
    return tuple(round(value, 6) for value in ordered)
