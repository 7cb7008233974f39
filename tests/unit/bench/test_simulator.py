"""The simulator: nothing lost, the same again for the same seed, times that a pen can follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.simulator import (
    Answer,
    Call,
    Delays,
    Device,
    Fleet,
    FunctionProfile,
    JobRecord,
    Profile,
    Report,
    Workload,
    simulate,
)
from bench.simulator.pace import Pace, Slowness, estimated
from bench.simulator.profiles import Bandwidth
from bench.simulator.recorded import Measured, Slower, load, save
from bench.simulator.workloads import closed_loop, daily, gamma_bursts, poisson, zipf_rates
from workers.scheduling.costs import Costs
from workers.scheduling.pending import Pending
from workers.scheduling.policies import NAMES
from workers.scheduling.records import Dispatch, Plan, WorkerView

DELAYS = Delays((0.002,), (0.001,), (0.001,), (0.0,), (0.002,), (0.003,), (0.001,))


def profile(
    functions: int = 3, compute_s: float = 0.1, weight_bytes: int = 100, **fields: object
) -> Profile:
    """Functions a, b, c ... that take the same time, proportional to their rows."""
    made = {
        name: FunctionProfile({1: (compute_s,)}, 0.5, 1.0, weight_bytes)
        for name in "abcdefgh"[:functions]
    }
    return Profile(made, DELAYS, **fields)  # type: ignore[arg-type]


CALLS = st.lists(
    st.builds(Call, st.floats(0, 3), st.sampled_from("abc"), st.integers(1, 4), st.just(0)),
    max_size=60,
).map(sorted)


# a network that decides takes seconds for this, and for policies one suite holds
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bcedge"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CALLS, st.integers(1, 3), st.integers(1, 3), st.integers(100, 400))
def test_every_job_ends_once(
    name: str, calls: list[Call], devices: int, places: int, budget: int
) -> None:
    """Whatever comes, whatever the policy and however little memory there is."""
    fleet = Fleet.of(devices, places=places, budget_bytes=budget)
    report = simulate(name, Workload(calls), fleet, profile(), 0, keeps_groups=True)
    assert sorted(calls) == sorted(Call(j.accepted_s, j.function, j.rows) for j in report.jobs)
    for job in report.jobs:
        assert job.accepted_s < job.ended_s
        assert (job.outcome is Answer.ANSWERED) == (job.group >= 0)
        if job.group >= 0:
            assert job.accepted_s < job.started_s < job.ended_s
    for device in fleet.devices:
        runs = sorted((g.started_s, g.ended_s) for g in report.groups if g.worker == device.id)
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(runs))


def outcomes(report: Report) -> list[tuple[str, float, float, Answer]]:
    return [
        (j.function, round(j.started_s, 6), round(j.ended_s, 6), j.outcome) for j in report.jobs
    ]


def test_the_same_seed_gives_the_same_history() -> None:
    """And another seed another one."""
    noisy = Profile(
        {name: FunctionProfile({1: (0.01, 0.02, 0.04)}, 0.5, 1.0) for name in "ab"}, DELAYS
    )

    def run(seed: int) -> list[tuple[str, float, float, Answer]]:
        work = poisson({"a": 20.0, "b": 10.0}, 5, seed=1)
        return outcomes(simulate("laxity", work, Fleet.of(2), noisy, seed))

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_history_by_hand() -> None:
    """One device, one place, one job at a time.

    a is sent at 0 and heard at 2 ms; deciding takes 1 ms, claiming 1 ms, sending 2 ms: it computes
    from 6 ms to 106 ms; settled after 3 ms, answered after 1 ms more. Then b: decided at 109 ms,
    computing from 113 to 213 ms; then three of four rows, which take 400 ms each. The last b was
    heard at 92 ms, its timeout is 1 s, and deadlines are looked at 100 ms after the turn at 1,030.
    """
    calls = [Call(0.0, "a"), Call(0.05, "b"), Call(0.06, "a", 4), Call(0.07, "a", 4)]
    calls += [Call(0.08, "c", 4), Call(0.09, "b")]
    report = simulate("fifo", Workload(calls), Fleet.of(1, places=1), profile(), 0)
    answered = Answer.ANSWERED
    found = outcomes(report)
    assert found[:4] == [
        ("a", 0.006, 0.110, answered),
        ("b", 0.113, 0.217, answered),
        ("a", 0.220, 0.624, answered),
        ("a", 0.627, 1.031, answered),
    ]
    assert (found[4][0], *found[4][2:]) == ("b", 1.131, Answer.EXPIRED)
    assert found[5:] == [("c", 1.034, 1.438, answered)]


class AtOnce:
    """Jobs to the first worker, while it has places."""

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """A group for each job."""
        jobs = sorted(pending, key=lambda job: job.id)[: workers[0].free_places]
        return Plan([Dispatch(workers[0].id, (job,), 0.1) for job in jobs])


def test_staging_overlaps_with_computing() -> None:
    """With two places the second group brings its weights in while the first computes."""
    room = Device("w", budget_bytes=200)
    made = profile(3, bandwidth=Bandwidth(host_bytes_per_s=1000.0))
    calls = [Call(0.0, "a"), Call(0.0, "c")]
    report = simulate(AtOnce(), Workload(calls), Fleet((room,)), made, 0)
    # c is staged at 7 ms, and its 100 bytes, for which b leaves, take 100 ms
    assert [(round(job.started_s, 6), round(job.ended_s, 6)) for job in report.jobs] == [
        (0.007, 0.111),
        (0.107, 0.211),
    ]
    assert (report.loads, report.loaded_bytes) == (1, 100)


def test_activations_put_weights_out() -> None:
    """Three functions fill 300 of 320 bytes; 100 bytes for a row cost one of them its place."""
    functions = {
        name: FunctionProfile({1: (0.1,)}, 0.5, 1.0, 100, activation_bytes=100) for name in "abc"
    }
    made, room = Profile(functions, DELAYS), Device("w", budget_bytes=320)
    calls = [Call(0.0, "a"), Call(1.0, "c"), Call(2.0, "b")]
    report = simulate("fifo", Workload(calls), Fleet((room,)), made, 0)
    assert report.count(Answer.ANSWERED) == 3
    # b left for the row of a, and comes back
    assert report.loads == 1


@pytest.mark.parametrize("pace", [Pace(0.0), Pace(0.7, 0.5), Pace(0.4, 0.12)])
def test_a_pace_is_found_again_in_what_it_draws(pace: Pace) -> None:
    """Ranks are uniform whatever the pace, and their history tells how much of it lasts."""
    slowness, run = Slowness(pace, Random(1)), []
    for k in range(4000):
        slowness.turn_to(0.05 * k)
        run.append((0.05 * k, slowness.rank()))
    assert sum(rank for _, rank in run) / len(run) == pytest.approx(0.5, abs=0.05)
    assert all(0 <= rank < 1 for _, rank in run)
    found = estimated([run])
    assert found.share == pytest.approx(pace.share, abs=0.15)
    if pace.share:
        assert 0.5 <= found.lasts_s / pace.lasts_s <= 2


def test_slow_moments_that_last_make_queues_longer() -> None:
    """The same times for runs, one slow run in ten: worse for p99 when slow ones come together."""
    functions = {"a": FunctionProfile({1: (*[0.01] * 9, 0.05)}, 2.0, 9.0, max_batch=1)}
    work = poisson({"a": 30.0}, 30.0, seed=1)

    def p99_s(pace: Pace) -> float:
        made = Profile(functions, DELAYS, pace=pace)
        return simulate("fifo", work, Fleet.of(1), made, 0).summary(0.0, 30.0).p99_s

    assert p99_s(Pace(0.9, 0.5)) > 1.5 * p99_s(Pace())


def test_clients_of_a_closed_loop_wait_for_their_answers() -> None:
    """Never more jobs under way than clients, and each of them sends until the end."""
    report = simulate("fifo", closed_loop("ab", 3, 5.0, seed=0), Fleet.of(1), profile(), 0)
    jobs = [*report.jobs]
    under_way = [
        sum(other.accepted_s <= job.accepted_s < other.ended_s for other in jobs) for job in jobs
    ]
    assert max(under_way) == 3
    assert len(jobs) > 5.0 / 0.12


def test_a_profile_and_a_run_survive_their_files(tmp_path: Path) -> None:
    """What was recorded is what is replayed: the same history from the files as before."""
    noisy = {name: FunctionProfile({1: (0.01, 0.02), 4: (0.05,)}, 0.5, 1.0) for name in "ab"}
    made = Profile(
        noisy, DELAYS, together={2: (0.9, 1.1)}, build_s={1: (0.01,)}, pace=Pace(0.5), stretch=1.2
    )
    made.write(tmp_path / "profile.json")
    work = poisson({"a": 20.0, "b": 10.0}, 5, seed=1)
    report = simulate("fifo", work, Fleet.of(1), made, 0)
    measured = Measured(1.0, 5.0, report.summary(1.0, 5.0), Slower(1.1, 0.9))
    save(tmp_path, "poisson", work.calls, measured)
    again, kept = load(tmp_path, "poisson")
    read = simulate("fifo", again, Fleet.of(1), Profile.read(tmp_path / "profile.json"), 0)
    assert kept == measured
    assert read.summary(1.0, 5.0) == pytest.approx(measured.summary, rel=1e-3)


def test_on_a_slower_machine_all_that_is_measured_takes_longer() -> None:
    """Runs and ways, each by its own factor: one call takes as much longer."""
    made = Profile({"a": FunctionProfile({1: (0.01,)}, 0.5, 1.0)}, Delays((0.002,), (0.001,)))
    work = poisson({"a": 1.0}, 5, seed=1)

    def latency_s(profile: Profile) -> float:
        first = next(iter(simulate("fifo", work, Fleet.of(1), profile, 0).jobs))
        return first.ended_s - first.accepted_s

    usual_s = latency_s(made)
    assert latency_s(made.slower(2.0, 1.0)) == pytest.approx(usual_s + 0.01)
    assert latency_s(made.slower(1.0, 3.0)) == pytest.approx(usual_s + 2 * 0.003)


def test_figures_by_hand() -> None:
    """Two functions, ten seconds: utility, violations, goodput, quantiles."""
    report = Report({"a": 0.1, "b": 0.2}, {"a": 1.0, "b": 1.0})
    for k in range(20):
        report.add(JobRecord("a", k * 0.5, k * 0.5 + 0.01, k * 0.5 + 0.05, Answer.ANSWERED, k))
    late = JobRecord("b", 1.0, 1.1, 1.4, Answer.ANSWERED, 20)
    for job in (late, late._replace(outcome=Answer.REFUSED), late._replace(accepted_s=11.0)):
        report.add(job)
    summary = report.summary(0.0, 10.0)
    # a: 2 per second at half its SLO; b: 0.1 per second at twice its SLO
    assert summary.utility == pytest.approx((log(2 / 0.5) + log(0.1 / 2)) / 2)
    assert summary.violations == pytest.approx(2 / 22)
    assert (summary.goodput, summary.throughput) == pytest.approx((2.0, 2.1))
    assert (summary.refused, summary.expired) == pytest.approx((1 / 22, 0.0))
    assert (summary.p50_s, summary.p99_s) == pytest.approx((0.05, 0.33), abs=0.01)
    # none answered: as if one had been, at its timeout
    nothing = report.summary(20.0, 30.0, ["a"])
    assert nothing.utility == pytest.approx(log(0.1 / 10))


def test_workloads_have_the_rates_they_were_given() -> None:
    """All of them, within what chance does; the same again for the same seed."""
    rates = zipf_rates("abc", 30.0, skew=1.0)
    assert rates == pytest.approx({"a": 180 / 11, "b": 90 / 11, "c": 60 / 11})
    made = {
        "poisson": lambda seed: poisson(rates, 100.0, seed),
        "bursts": lambda seed: gamma_bursts(rates, 100.0, seed, cv=2.0),
        "daily": lambda seed: daily(rates, 100.0, seed, day_s=100.0),
    }
    for name, make in made.items():
        calls = [*make(1).calls]
        assert calls == sorted(calls), name
        assert calls == [*make(1).calls], name
        assert calls != [*make(2).calls], name
        counts = Counter(call.function for call in calls)
        assert counts == pytest.approx({n: 100 * r for n, r in rates.items()}, rel=0.2), name
    noon = sum(25.0 <= call.at_s < 75.0 for call in daily(rates, 100.0, 1, day_s=100.0).calls)
    assert noon > 0.65 * 3000
