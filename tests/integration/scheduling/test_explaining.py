"""What the scheduler says of the jobs that it sends, and of itself."""

from __future__ import annotations

import time

from contract.store import Store
from contract.store.scheduling import SchedulingNow
from contract.trail import Ahead, Planned
from tests.integration.scheduling.test_loop import WAIT_S, join, scheduling, settle, taken
from tests.integration.store.builders import deploy, submit


def test_a_job_that_waited_knows_what_went_before_it(store: Store) -> None:
    """While the only place was taken, a job of another function was sent."""
    busy, waiting = deploy(store, "busy"), deploy(store, "waiting")
    join(store)
    with scheduling(store, group_jobs=1):
        [first] = submit(store, busy)
        one = taken(store)
        submit(store, busy)
        [last] = submit(store, waiting)
        settle(store, one)
        two = taken(store)
        settle(store, two)
        three = taken(store)
        settle(store, three)
    trail = store.jobs.get(first.spec.id).trail
    assert Ahead.decode(trail.ahead) == Ahead(0, 0)
    assert Planned.decode(trail.planned).before == 0
    # which of the two that waited went first is the policy's to say
    [job] = three.jobs
    of = "waiting" if job != last.spec.id else "busy"
    planned = Planned.decode(store.jobs.get(job).trail.planned)
    assert (planned.before, planned.before_of) == (1, ((of, 1),))
    assert planned.predicted_s > 0


def test_the_scheduler_publishes_its_decisions_and_what_was_answered(store: Store) -> None:
    """Within seconds, for everybody to read."""
    function = deploy(store)
    join(store)
    with scheduling(store):
        give_up_at_s = time.monotonic() + WAIT_S
        now: SchedulingNow | None = None
        while now is None or "echo" not in now.served:
            assert time.monotonic() < give_up_at_s
            submit(store, function)
            settle(store, taken(store))
            now = store.scheduling.now()
    assert (now.decisions.policy, now.served["echo"].late) == ("laxity", 0)
    assert now.decisions.dispatches >= now.served["echo"].answered > 0
    assert sum(now.decisions.buckets) == now.decisions.calls
    assert now.decisions.p50_s is not None
