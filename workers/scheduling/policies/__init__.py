"""The policies: what runs now, where, and together with what. Pure; one module each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from contract.store.queue import GroupReport
from workers.scheduling.costs import Costs
from workers.scheduling.pending import Pending
from workers.scheduling.records import Limits, Plan, WorkerView

# FUSEBOX_POLICY -> where it is; a module of one policy is loaded when that one is chosen
_PLACES = {
    "laxity": ("workers.scheduling.policies.laxity", "LeastLaxity"),
    "fifo": ("workers.scheduling.policies.fifo", "Fifo"),
    "fixed": ("workers.scheduling.policies.fixed", "fixed"),
    "window": ("workers.scheduling.policies.window", "Window"),
    "edf": ("workers.scheduling.policies.edf", "Edf"),
    "bcedge": ("workers.scheduling.policies.bcedge.policy", "BCEdge"),
}
NAMES = tuple(_PLACES)


class Policy(Protocol):
    """Decides; keeps no time and does no I/O of its own."""

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Groups to start now and jobs to refuse; what it does not name goes on waiting.

        No pending job's deadline has passed. A dispatch takes one free place of its worker.
        """
        ...


@runtime_checkable
class Learner(Protocol):
    """A policy that learns from what became of its groups, where it is told to."""

    adapts: bool

    def observe(self, report: GroupReport, now_s: float) -> None:
        """A worker has reported a group."""
        ...

    def learn(self) -> None:
        """Learn from what was observed, for a few milliseconds at most."""
        ...


def policy_named(name: str, limits: Limits) -> Policy:
    """The policy of this name, as FUSEBOX_POLICY gives it."""
    module, policy = _PLACES[name]
    made: Any = getattr(import_module(module), policy)(limits)
    assert callable(made.plan)
    return made  # type: ignore[no-any-return]
