"""What became of decisions: groups that were sent, matched with reports, as transitions."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from contract.function import FunctionRef
from contract.store.queue import GroupReport
from workers.scheduling.policies.bcedge.networks import Bools, Floats
from workers.scheduling.policies.bcedge.replay import Transition
from workers.scheduling.records import PendingJob

# Throughput is what was answered within this time.
WINDOW_S = 2.0
# What is taken off the reward where no job of a group is answered within its SLO; in part where
# some are not. A flat penalty would say nothing of how to get out of an overload.
PENALTY = 4.0
# The worst reward: one late group must not outweigh all others.
LEAST = -8.0
# Rewards are of the order of 1 for the networks.
REWARD_SCALE = 0.2
# Decisions of a function on a worker whose reports are awaited; of lost groups none comes.
_AWAITED = 64


@dataclass(slots=True)
class Decision:
    """A group that was sent, and what the agent saw when it chose it."""

    worker: str
    ref: FunctionRef
    jobs: Sequence[PendingJob]
    at_s: float
    # predicted, on a worker that does nothing else
    alone_s: float
    state: Floats
    allowed: Bools
    action: int
    # of the interference predictor, for this action
    beside: Floats
    reward: float | None = None
    following: Decision | None = None

    def transition(self) -> Transition:
        """To be replayed."""
        assert self.reward is not None
        assert self.following is not None
        return Transition(
            self.state,
            self.allowed,
            self.action,
            self.reward,
            self.following.state,
            self.following.allowed,
        )


def utility(throughput: float, latency_s: float, slo_s: float) -> float:
    """BCEdge's ln(throughput / (latency / SLO)): jobs per second, mean seconds, seconds."""
    return log(throughput / (latency_s / slo_s))


class Experience:
    """Decisions whose outcome or successor is awaited."""

    def __init__(self) -> None:
        self._awaited: defaultdict[tuple[str, FunctionRef], deque[Decision]] = defaultdict(
            lambda: deque(maxlen=_AWAITED)
        )
        self._last: dict[FunctionRef, Decision] = {}
        # end and jobs of a function's groups, as far as the window reaches
        self._answered: defaultdict[FunctionRef, deque[tuple[float, int]]] = defaultdict(deque)

    def sent(self, decision: Decision) -> Transition | None:
        """A group is sent; the transition that its state completes, if one."""
        self._awaited[decision.worker, decision.ref].append(decision)
        before = self._last.get(decision.ref)
        self._last[decision.ref] = decision
        if before is None:
            return None
        before.following = decision
        return before.transition() if before.reward is not None else None

    def ended(self, report: GroupReport, now_s: float) -> Decision | None:
        """The decision that a report is of, with its reward; None where that is not known."""
        if len(report.members) != 1:
            return None
        name, version, *_ = report.members[0]
        ref = FunctionRef(name, version)
        awaited = self._awaited.get((report.worker, ref))
        if not awaited:
            return None
        decision = awaited.popleft()
        decision.reward = REWARD_SCALE * self._reward(decision, now_s)
        return decision

    def _reward(self, decision: Decision, now_s: float) -> float:
        jobs, answered = decision.jobs, self._answered[decision.ref]
        answered.append((now_s, len(jobs)))
        while answered[0][0] < now_s - WINDOW_S:
            answered.popleft()
        late = sum(now_s > job.due_at_s for job in jobs) / len(jobs)
        throughput = sum(count for _, count in answered) / WINDOW_S
        latency_s = sum(now_s - job.accepted_at_s for job in jobs) / len(jobs)
        slo_s = sum(job.due_at_s - job.accepted_at_s for job in jobs) / len(jobs)
        gained = utility(throughput, max(latency_s, 1e-6), max(slo_s, 1e-3))
        return max(LEAST, gained - PENALTY * late)
