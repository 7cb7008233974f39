"""What BCEdge's agent decides is carried out as batches and instances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.store.queue import GroupReport
from tests.unit.scheduling.test_policy import LIMITS, NOW_S, A, B, C, job, waiting, worker
from workers.scheduling.costs import Costs
from workers.scheduling.policies import Learner
from workers.scheduling.policies.bcedge.agent import Agent
from workers.scheduling.policies.bcedge.experience import PENALTY, REWARD_SCALE, utility
from workers.scheduling.policies.bcedge.grid import ACTIONS, Action
from workers.scheduling.policies.bcedge.networks import Bools, Floats, Networks
from workers.scheduling.policies.bcedge.policy import BCEdge
from workers.scheduling.policies.bcedge.state import FEATURES, SLOT_S
from workers.scheduling.records import PendingJob


class Always(Agent):
    """Chooses one action whatever it sees; the next best where that is not allowed."""

    def __init__(self, action: Action) -> None:
        super().__init__(Networks(len(FEATURES), len(ACTIONS)), len(ACTIONS))
        self._index = ACTIONS.index(action)

    def act(self, states: Floats, allowed: Bools, explores: bool) -> list[int]:
        return [self._index if row[self._index] else int(row.argmax()) for row in allowed]


def fresh(number: int, **given: object) -> PendingJob:
    """A job that was accepted now."""
    return replace(job(number), accepted_at_s=NOW_S, **given)  # type: ignore[arg-type]


def policy(batch: int, instances: int) -> BCEdge:
    """BCEdge whose agent always chooses this."""
    return BCEdge(LIMITS, Always(Action(batch, instances)))


def test_a_batch_is_sent_when_it_is_full() -> None:
    """Rows beyond it wait for the next one."""
    jobs = [fresh(n) for n in range(5)]
    decided = policy(4, 1).plan(waiting(jobs), [worker(places=2)], Costs(), NOW_S)
    assert [dispatch.jobs for dispatch in decided.dispatches] == [tuple(jobs[:4])]


def test_a_batch_that_does_not_fill_is_sent_when_its_slot_is_over() -> None:
    """It asks to be asked again then."""
    pending, chosen = waiting([fresh(1)]), policy(4, 1)
    first = chosen.plan(pending, [worker()], Costs(), NOW_S)
    assert (first.dispatches, first.wake_at_s) == ([], NOW_S + SLOT_S)
    [dispatch] = chosen.plan(pending, [worker()], Costs(), first.wake_at_s).dispatches
    assert dispatch.jobs == (fresh(1),)


@pytest.mark.parametrize("instances", [1, 2, 3])
def test_a_function_has_as_many_groups_as_instances(instances: int) -> None:
    """Those that its worker has already count."""
    view = replace(worker(places=3), groups_of={"a": 1}, under_way_s=0.01)
    jobs = [fresh(n) for n in range(9)]
    decided = policy(1, instances).plan(waiting(jobs), [view], Costs(), NOW_S)
    assert len(decided.dispatches) == instances - 1


def test_a_group_has_one_function() -> None:
    """As BCEdge's batches; who is due first goes first."""
    jobs = [fresh(1), fresh(2, function=B, due_at_s=NOW_S + 1), fresh(3)]
    decided = policy(2, 1).plan(waiting(jobs), [worker(places=1)], Costs(), NOW_S + 1)
    assert [dispatch.jobs for dispatch in decided.dispatches] == [(jobs[1],)]


def test_a_function_that_mixes_rows_is_never_batched() -> None:
    """Actions that would are not allowed."""
    jobs = [replace(fresh(n), function=C) for n in range(3)]
    decided = policy(4, 2).plan(waiting(jobs), [worker(places=2)], Costs(), NOW_S)
    assert [len(dispatch.jobs) for dispatch in decided.dispatches] == [1]


def test_batches_that_would_break_the_slo_are_refused() -> None:
    """A batch of four takes too long for what is due."""
    costs = Costs()
    for rows in (1, 4) * 20:
        costs.learn(GroupReport("g", "w", [("a", 1, rows)], 0.01 * rows, 0.0, 0.0))
    view = worker("w", 1, 1000, A)
    urgent = [fresh(n, due_at_s=NOW_S + 0.02, deadline_s=NOW_S + 9) for n in range(4)]
    decided = policy(4, 1).plan(waiting(urgent), [view], costs, NOW_S)
    assert len(decided.dispatches[0].jobs) == 1
    easy = [fresh(n, due_at_s=NOW_S + 5) for n in range(4)]
    decided = policy(4, 1).plan(waiting(easy), [view], costs, NOW_S)
    assert len(decided.dispatches[0].jobs) == 4


def test_the_same_queue_gives_the_same_plan() -> None:
    """As long as it does not adapt; the shipped agent."""
    jobs = [fresh(n, function=ref) for n, ref in enumerate([A, B, C] * 4)]
    shipped = BCEdge(LIMITS)
    plans = [
        chosen.plan(waiting(jobs), [worker(places=2)], Costs(), NOW_S)
        for chosen in (shipped, shipped, BCEdge(LIMITS))
    ]
    assert plans[0].dispatches
    assert plans[0] == plans[1] == plans[2]


def _played(end_s: float) -> BCEdge:
    """Two groups of one function, each of which ended so long after it was sent."""
    chosen = policy(1, 2)
    chosen.adapts = True
    for number in range(2):
        at_s = NOW_S + number
        each = replace(fresh(number), accepted_at_s=at_s, due_at_s=at_s + 0.5)
        [dispatch] = chosen.plan(waiting([each]), [worker()], Costs(), at_s).dispatches
        chosen.observe(GroupReport("g", dispatch.worker, [("a", 1, 1)], 0.01, 0, 0), at_s + end_s)
    return chosen


def test_groups_in_time_are_rewarded_with_their_utility() -> None:
    """One job in the window of two seconds, answered after 0.1 of its 0.5 s."""
    batch = _played(0.1).agent.replay
    assert len(batch) == 1
    expected = REWARD_SCALE * utility(0.5, 0.1, 0.5)
    assert batch.sample(1, _random()).reward.item() == pytest.approx(expected)


def test_groups_that_are_late_are_penalised() -> None:
    """The SLO does not hold."""
    batch = _played(0.7).agent.replay
    expected = REWARD_SCALE * (utility(0.5, 0.7, 0.5) - PENALTY)
    assert batch.sample(1, _random()).reward.item() == pytest.approx(expected)


def test_it_learns_only_where_it_is_told_to() -> None:
    """Else it keeps nothing of what it sends."""
    chosen = policy(1, 1)
    assert isinstance(chosen, Learner)
    assert not chosen.adapts
    chosen.plan(waiting([fresh(1)]), [worker()], Costs(), NOW_S)
    chosen.observe(GroupReport("g", "w", [("a", 1, 1)], 0.01, 0, 0), NOW_S + 1)
    assert len(chosen.agent.replay) == len(chosen.predictor) == 0
    before = [p.clone() for p in chosen.agent.networks.parameters()]
    chosen.learn()
    after = chosen.agent.networks.parameters()
    assert all(np.array_equal(a.detach(), b.detach()) for a, b in zip(before, after, strict=True))


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(0)
