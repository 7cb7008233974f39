"""Strategies in themselves: rows joined and split, members spread, the fastest chosen."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import IntegrityError
from fusion.strategies.branches import spread
from fusion.strategies.choice import LOOK_COST, LOOK_EVERY, TRIAL_RUNS, WARM_RUNS, Choice
from fusion.strategies.concat import concat, rows_of, split
from fusion.strategies.lanes import Lanes


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_rows_are_joined_and_split_again(rows):
    """Each job gets its own rows back."""
    jobs = [[torch.full((n, 2), float(i)), torch.arange(n)] for i, n in enumerate(rows)]
    joined = concat(jobs)
    back = split(joined, [rows_of(job) for job in jobs])
    assert all(
        torch.equal(a, b)
        for job, got in zip(jobs, back, strict=True)
        for a, b in zip(job, got, strict=True)
    )


def test_a_single_job_is_not_copied():
    """Most calls are alone."""
    x = torch.ones(2, 2)
    assert x is concat([[x]])[0]


def test_lost_rows_are_an_integrity_error():
    """Where n went in, n come out."""
    with pytest.raises(IntegrityError, match=r"output 0 has shape \(2, 2\), 3 rows went in"):
        split([torch.ones(2, 2)], [1, 2])
    with pytest.raises(IntegrityError, match="different rows"):
        rows_of([torch.ones(2), torch.ones(3)])


@given(st.lists(st.floats(0, 1e3), max_size=12), st.integers(1, 5))
def test_every_member_is_in_one_lane(costs_s, lanes):
    """And the fullest lane has no more than an even share and one member."""
    shares = spread(costs_s, lanes)
    assert lanes == len(shares)
    assert list(range(len(costs_s))) == sorted(k for share in shares for k in share)
    fullest = max(sum(costs_s[k] for k in share) for share in shares)
    assert fullest <= sum(costs_s) / lanes + max(costs_s, default=0) + 1e-6


def _settled(serial_s: float, branches_s: float) -> Choice:
    choice = Choice(["serial", "branches"])
    times_s = {"serial": serial_s, "branches": branches_s}
    for _ in range(2 * (WARM_RUNS + TRIAL_RUNS)):
        choice.record(choice.name(), times_s[choice.name()])
    assert choice.is_settled
    return choice


def test_strategies_take_turns_and_the_fastest_stays():
    """Medians of the trials are remembered."""
    choice = _settled(serial_s=2.0, branches_s=1.0)
    assert (choice.name(), choice.measured) == ("branches", {"serial": 2.0, "branches": 1.0})


@pytest.mark.parametrize("branches_s", [0.99, 1.0, 3.0])
def test_one_after_another_stays_unless_clearly_beaten(branches_s):
    """A group is never slower than its members one by one."""
    assert _settled(serial_s=1.0, branches_s=branches_s).name() == "serial"


def test_trials_alternate_and_end():
    """Each strategy has as many."""
    choice = Choice(["a", "b"])
    order = []
    while not choice.is_settled:
        order.append(choice.name())
        choice.record(order[-1], 1.0)
    assert order == ["a", "b"] * (WARM_RUNS + TRIAL_RUNS)


def test_a_choice_follows_a_change_of_load():
    """The other strategy runs once in a while, and takes over when it has become faster."""
    choice = _settled(serial_s=2.0, branches_s=1.0)
    runs = {"serial": 0, "branches": 0}
    for _ in range(10 * (LOOK_EVERY + 1)):
        name = choice.name()
        runs[name] += 1
        choice.record(name, {"serial": 1.0, "branches": 3.0}[name])
    assert choice.name() == "serial"
    assert runs["branches"] < LOOK_EVERY + 15  # one interval to notice, then a look in each


def test_looking_at_the_other_strategy_is_rare():
    """It costs one run in LOOK_EVERY while nothing changes."""
    choice = _settled(serial_s=1.0, branches_s=2.0)
    looks = 0
    for _ in range(4 * (LOOK_EVERY + 1)):
        looks += choice.name() == "branches"
        choice.record(choice.name(), {"serial": 1.0, "branches": 2.0}[choice.name()])
    assert looks == 4


def test_a_much_slower_way_is_looked_at_more_rarely():
    """Looks cost the same share of time, whatever they find."""
    choice = _settled(serial_s=1.0, branches_s=9.0)
    looks, runs = 0, 1700
    for _ in range(runs):
        looks += choice.name() == "branches"
        choice.record(choice.name(), {"serial": 1.0, "branches": 9.0}[choice.name()])
    assert looks * 8.0 / runs <= LOOK_COST
    assert looks >= 3


def test_what_was_measured_before_needs_no_trials():
    """A way that is new among them does."""
    known = {"serial": 2.0, "branches": 1.0}
    assert Choice(["serial", "branches"], known).name() == "branches"
    choice = Choice(["serial", "branches", "prefix"], known)
    for _ in range(WARM_RUNS + TRIAL_RUNS):
        assert (choice.is_settled, choice.name()) == (False, "prefix")
        choice.record("prefix", 0.5)
    assert (choice.is_settled, choice.name()) == (True, "prefix")


def test_a_lone_strategy_needs_no_trials():
    """There is nothing to choose."""
    assert Choice(["serial"]).is_settled
    assert not Choice(["serial"]).is_open


def test_lanes_run_their_tasks_in_order_and_side_by_side():
    """Two tasks that wait for each other end only if both run at once."""
    barrier = threading.Barrier(2, timeout=10)
    seen: dict[int, list[str]] = {0: [], 1: []}

    def note(lane: int, what: str) -> None:
        barrier.wait()
        seen[lane].append(what)

    with Lanes(2) as lanes:
        lanes.run([[lambda i=i, w=w: note(i, w) for w in "ab"] for i in range(2)])
        lanes.run([[lambda: seen[0].append("c")], []])
    assert seen == {0: ["a", "b", "c"], 1: ["a", "b"]}


def test_lanes_have_one_thread_each_and_leave_the_caller_its_own():
    """The setting of the caller, and of threads started later, stays."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found: list[int] = []
        with Lanes(2) as lanes:
            lanes.run([[lambda: found.append(torch.get_num_threads())]] * 2)
            later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
            later.start()
            later.join()
        assert found == [1, 1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_closed_lanes_leave_no_threads():
    """They end when told to."""
    with Lanes(3):
        assert sum(t.name.startswith("lane-") for t in threading.enumerate()) == 3
    assert not any(t.name.startswith("lane-") for t in threading.enumerate())
