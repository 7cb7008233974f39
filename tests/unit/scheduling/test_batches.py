"""The published policies: when a batch of one function is sent, and how large it is."""

from __future__ import annotations

from contract.function import FunctionRef
from tests.unit.scheduling.test_laxity import BATCHED, NOW_S, SINGLE, A, B, costs, job
from tests.unit.scheduling.test_policy import waiting
from workers.scheduling.costs import Costs
from workers.scheduling.policies import Policy
from workers.scheduling.policies.edf import Edf
from workers.scheduling.policies.fixed import fixed
from workers.scheduling.policies.window import Window
from workers.scheduling.records import FunctionView, Limits, PendingJob, Plan, WorkerView

LIMITS = Limits(8, 64)


def decide(
    policy: Policy,
    *jobs: PendingJob,
    places: int = 1,
    learned: Costs | None = None,
    views: dict[FunctionRef, FunctionView] | None = None,
    at_s: float = 0.0,
) -> Plan:
    """What the policy does `at_s` after NOW_S."""
    worker = WorkerView("w", places, 10**9, frozenset([A, B]))
    pending = waiting(jobs, views or {A: BATCHED, B: BATCHED})
    return policy.plan(pending, [worker], learned or Costs(), NOW_S + at_s)


def sizes(decided: Plan) -> list[tuple[str, int]]:
    """Function and jobs of each group."""
    return [(d.jobs[0].function.name, len(d.jobs)) for d in decided.dispatches]


def test_a_fixed_batch_waits_until_it_is_full_or_old() -> None:
    """It asks to be asked again when its oldest job will have waited enough."""
    policy = fixed(LIMITS, rows=4, timeout_s=0.1)
    three, five = [job(n) for n in range(3)], [job(n) for n in range(5)]
    assert (sizes(decide(policy, *three)), decide(policy, *three).wake_at_s) == ([], NOW_S + 0.1)
    assert sizes(decide(policy, *five, places=2)) == [("a", 4)]
    assert sizes(decide(policy, *three, at_s=0.1)) == [("a", 3)]


def test_a_batch_is_of_one_function() -> None:
    """Those that can be joined with no other job go alone."""
    policy = fixed(LIMITS, rows=2)
    jobs = [job(n, (A, B)[n % 2]) for n in range(4)]
    assert sorted(sizes(decide(policy, *jobs, places=3))) == [("a", 2), ("b", 2)]
    alone = {A: SINGLE, B: BATCHED}
    assert sizes(decide(policy, *jobs, places=3, views=alone)) == [("a", 1), ("a", 1), ("b", 2)]


def test_a_window_sends_the_largest_preferred_batch_at_once() -> None:
    """What is less waits for the delay, then goes as it is."""
    policy = Window(LIMITS, (4, 8), 0.01)
    nine = [job(n) for n in range(9)]
    assert sizes(decide(policy, *nine, places=3)) == [("a", 8)]
    assert sizes(decide(policy, *nine[:5], places=3)) == [("a", 4)]
    assert sizes(decide(policy, *nine[:5], places=3, at_s=0.01)) == [("a", 4), ("a", 1)]


def test_edf_batches_what_came_in_one_window() -> None:
    """Half of the aim long, counted from 0; nothing is sent before its window ends."""
    policy = Edf(LIMITS)
    early = [job(n, due_in_s=2.0) for n in range(3)]
    later = job(9, due_in_s=3.5, accepted_in_s=1.5)
    assert sizes(decide(policy, *early, later, places=3, at_s=0.5)) == []
    assert decide(policy, *early, later, at_s=0.5).wake_at_s == NOW_S + 1.0
    assert sizes(decide(policy, *early, later, places=3, at_s=1.0)) == [("a", 3)]
    assert sizes(decide(policy, *early, later, places=3, at_s=2.0)) == [("a", 3), ("a", 1)]


def test_edf_runs_the_batch_first_that_is_due_first() -> None:
    """Whichever function it is of."""
    jobs = [job(1, A, due_in_s=0.8), job(2, B, due_in_s=0.4)]
    assert sizes(decide(Edf(LIMITS), *jobs, at_s=0.45)) == [("b", 1)]


def test_edf_admits_what_its_order_can_meet() -> None:
    """The latest requests of a batch that would be late in the worst case are refused."""
    learned = costs(a=0.2)
    jobs = [job(n, due_in_s=1.0) for n in range(5)]
    decided = decide(Edf(LIMITS), *jobs, learned=learned, at_s=0.45)
    refused = [int(refusal.job.id) for refusal in decided.refused]
    assert refused == [4, 3, 2]
    assert {refusal.reason for refusal in decided.refused} == {"not_admitted"}
    assert decide(Edf(LIMITS), *jobs, at_s=0.45).refused == []
