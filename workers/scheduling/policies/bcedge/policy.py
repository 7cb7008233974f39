"""The policy: one forward for all functions that wait, then groups of one function each.

A batch is sent when so many rows wait, or when its slot is over (`Look.send_by_s`), and while the
worker has fewer groups of the function than the action's instances. Functions whose jobs are due
first have the first choice of places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import nsmallest
from itertools import islice
from math import inf
from typing import NamedTuple

import numpy as np

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from workers.scheduling.costs import Costs
from workers.scheduling.groups import Group
from workers.scheduling.pending import Pending
from workers.scheduling.policies.bcedge import constraints, weights
from workers.scheduling.policies.bcedge.agent import Agent
from workers.scheduling.policies.bcedge.experience import Decision, Experience
from workers.scheduling.policies.bcedge.grid import ACTIONS
from workers.scheduling.policies.bcedge.interference import Predictor, inputs_of
from workers.scheduling.policies.bcedge.networks import Bools, Floats
from workers.scheduling.policies.bcedge.state import Look, features
from workers.scheduling.records import Dispatch, Limits, PendingJob, Plan, WorkerView

# Functions and jobs of each that a decision looks at: bounds its time.
MOST_FUNCTIONS = 64
MOST_JOBS = 64
# Transitions that the agent wants before it learns.
LEARN_FROM = 256


class _Choice(NamedTuple):
    """What the agent chose for one function."""

    look: Look
    action: int
    state: Floats
    allowed: Bools
    beside: Floats


class BCEdge:
    """Batch size and concurrency per function, chosen by a discrete soft actor-critic.

    With `adapts` it draws its actions, each of which holds until its group is sent, and learns from
    reports; else it takes the likeliest ones, and the same queue gives the same plan.
    """

    def __init__(
        self,
        limits: Limits,
        agent: Agent | None = None,
        predictor: Predictor | None = None,
    ) -> None:
        if agent is None:
            networks, predictor = weights.read(weights.SHIPPED)
            agent = Agent(networks, len(ACTIONS))
        self.agent = agent
        self.predictor = predictor or Predictor()
        self.adapts = False
        self._limits = limits
        self._experience = Experience()
        # what was drawn and not sent yet
        self._drawn: dict[FunctionRef, _Choice] = {}

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Groups of one function each."""
        free = {view.id: view for view in workers if view.free_places > 0}
        dispatches: list[Dispatch] = []
        taken: set[JobId] = set()
        while True:
            looks = [*_looks(pending, [*free.values()], taken, now_s)] if free else []
            before, wake_at_s = len(dispatches), inf
            for choice in self._choose(looks, costs):
                worker = free.get(choice.look.worker.id)
                if worker is None or not _has_turn(choice):
                    continue
                if not _is_filled(choice):
                    wake_at_s = min(wake_at_s, choice.look.send_by_s)
                    continue
                dispatch = self._send(choice, pending, worker, costs, now_s)
                dispatches.append(dispatch)
                taken.update(job.id for job in dispatch.jobs)
                free[worker.id] = _with_group(worker, choice.look.ref, dispatch.predicted_s)
                if not free[worker.id].free_places:
                    del free[worker.id]
            if len(dispatches) == before:
                return Plan(dispatches, wake_at_s=wake_at_s)

    def observe(self, report: GroupReport, now_s: float) -> None:
        """A worker has reported a group."""
        decision = self._experience.ended(report, now_s)
        if decision is None:
            return
        self.predictor.add(decision.beside, (now_s - decision.at_s) / decision.alone_s)
        if decision.following is not None:
            self.agent.replay.add(decision.transition())

    def learn(self) -> None:
        """One step of agent and predictor; nothing until there is enough to learn from."""
        if len(self.agent.replay) >= LEARN_FROM:
            self.agent.learn()
            self.predictor.learn()

    def _choose(self, looks: list[Look], costs: Costs) -> list[_Choice]:
        """An action for each, in the same order."""
        if not looks:
            return []
        states = np.array([features(look, costs) for look in looks], np.float32)
        alone_s = np.array([look.alone_s(costs) for look in looks], np.float32).clip(1e-6)
        beside = inputs_of(looks, alone_s)
        kept = constraints.in_time(looks, alone_s, self.predictor.slowdown(beside))
        can = np.array([constraints.possible(look) for look in looks])
        allowed = constraints.allowed(kept, can)
        actions = self.agent.act(states, allowed, explores=self.adapts)
        beside = beside.reshape(len(looks), len(ACTIONS), -1)
        choices = [
            _Choice(look, action, states[n], allowed[n], beside[n, action])
            for n, (look, action) in enumerate(zip(looks, actions, strict=True))
        ]
        return [self._held(choice) for choice in choices] if self.adapts else choices

    def _held(self, choice: _Choice) -> _Choice:
        """What was drawn before, as long as it is allowed, with the queue as it is now."""
        ref = choice.look.ref
        before = self._drawn.get(ref)
        if before is not None and choice.allowed[before.action]:
            choice = before._replace(look=choice.look)
        self._drawn[ref] = choice
        return choice

    def _send(
        self, choice: _Choice, pending: Pending, worker: WorkerView, costs: Costs, now_s: float
    ) -> Dispatch:
        look, batch = choice.look, ACTIONS[choice.action].batch
        group = Group(worker)
        group.add(look.jobs[0])
        for job in look.jobs[1:]:
            if len(group.jobs) >= min(batch, self._limits.jobs):
                break
            fits = group.rows[look.ref] + job.rows <= batch
            if fits and constraints.can_grow(group, job, look.view, costs, now_s):
                group.add(job)
        dispatch = group.dispatch(pending.functions, costs)
        if self.adapts:
            del self._drawn[look.ref]
            self._note(choice, dispatch, now_s)
        return dispatch

    def _note(self, choice: _Choice, dispatch: Dispatch, now_s: float) -> None:
        decision = Decision(
            dispatch.worker,
            choice.look.ref,
            dispatch.jobs,
            now_s,
            max(dispatch.predicted_s, 1e-6),
            choice.state,
            choice.allowed,
            choice.action,
            choice.beside,
        )
        transition = self._experience.sent(decision)
        if transition is not None:
            self.agent.replay.add(transition)


def _looks(
    pending: Pending, free: list[WorkerView], taken: set[JobId], now_s: float
) -> Iterator[Look]:
    """The functions that may run now, those with the most urgent jobs first."""
    waiting: list[tuple[FunctionRef, list[PendingJob], int]] = []
    for ref in pending.refs():
        jobs = [*islice((job for job in pending.of(ref) if job.id not in taken), MOST_JOBS)]
        if jobs:
            # those that are not looked at count one row each
            others = max(0, len(pending.of(ref)) - MOST_JOBS)
            waiting.append((ref, jobs, others + sum(job.rows for job in jobs)))
    rows = sum(own for _, _, own in waiting)
    first = nsmallest(MOST_FUNCTIONS, waiting, key=lambda its: (its[1][0].due_at_s, its[1][0].id))
    for ref, jobs, own in first:
        able = [worker for worker in free if ref not in worker.behind]
        if able:
            worker = max(able, key=lambda its: _fitness(ref, its))
            yield Look(ref, pending.functions[ref], worker, jobs, own, rows - own, now_s)


def _fitness(ref: FunctionRef, worker: WorkerView) -> tuple[int, bool, int]:
    """Fewest groups of it, then the weights, then places."""
    return -worker.groups_of.get(ref.name, 0), ref in worker.resident, worker.free_places


def _has_turn(choice: _Choice) -> bool:
    return choice.look.own_groups < ACTIONS[choice.action].instances


def _is_filled(choice: _Choice) -> bool:
    look = choice.look
    return look.rows >= ACTIONS[choice.action].batch or look.now_s >= look.send_by_s


def _with_group(worker: WorkerView, ref: FunctionRef, predicted_s: float) -> WorkerView:
    own = worker.groups_of.get(ref.name, 0)
    return replace(
        worker,
        free_places=worker.free_places - 1,
        under_way_s=(worker.under_way_s or 0.0) + predicted_s,
        groups_of={**worker.groups_of, ref.name: own + 1},
    )
