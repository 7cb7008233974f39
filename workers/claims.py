"""The claims a worker holds: what the heartbeat renews, and what was lost meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.job import Claim, JobId


@dataclass
class _Held:
    claim: Claim
    # never renewed past this moment: a run that hangs loses its jobs in the end
    until_s: float
    is_lost: bool = False


class _Group(NamedTuple):
    # it is not overdue before, whatever it holds
    until_s: float
    jobs: set[JobId]


class UnderWay(NamedTuple):
    """Groups of one moment."""

    # ever
    begun: int
    groups: frozenset[str]
    # those that no longer renew any lease
    overdue: frozenset[str]


@dataclass
class Claims:
    """Claims of the groups under way; thread-safe. Times are Unix seconds."""

    # called when the last group ended
    on_idle: Callable[[], None] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[JobId, _Held] = field(default_factory=dict)
    _groups: dict[str, _Group] = field(default_factory=dict)
    # groups, ever
    _begun: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether no group is under way."""
        return not self._groups

    def groups(self) -> list[str]:
        """Ids of the groups under way."""
        with self._lock:
            return list(self._groups)

    def begin(self, group: str, until_s: float) -> None:
        """A group starts, for so long at least."""
        with self._lock:
            self._groups[group] = _Group(until_s, set())
            self._begun += 1

    def hold(self, group: str, claim: Claim, until_s: float) -> None:
        """A job of the group: its lease is renewed up to that moment and no further."""
        with self._lock:
            self._held[claim.job] = _Held(claim, until_s)
            self._groups[group].jobs.add(claim.job)

    def under_way(self, now_s: float) -> UnderWay:
        """The groups at this moment."""
        with self._lock:
            overdue = [
                group
                for group, its in self._groups.items()
                if its.until_s < now_s and all(self._held[job].until_s < now_s for job in its.jobs)
            ]
            return UnderWay(self._begun, frozenset(self._groups), frozenset(overdue))

    def keep_only(self, group: str, jobs: Set[JobId]) -> None:
        """The other jobs of the group have settled; it goes on with these."""
        with self._lock:
            its = self._groups[group].jobs
            for job in its - jobs:
                del self._held[job]
            its &= jobs

    def end(self, group: str) -> None:
        """A group is over."""
        with self._lock:
            for job in self._groups.pop(group).jobs:
                del self._held[job]
            is_idle = not self._groups
        if is_idle:
            self.on_idle()

    def to_renew(self, now_s: float) -> list[Claim]:
        """Claims whose leases should go on."""
        with self._lock:
            return [
                held.claim
                for held in self._held.values()
                if not held.is_lost and now_s < held.until_s
            ]

    def lose(self, jobs: Iterable[JobId]) -> None:
        """These jobs belong to somebody else now."""
        with self._lock:
            for job in jobs:
                if job in self._held:
                    self._held[job].is_lost = True

    def is_lost(self, job: JobId) -> bool:
        """Whether running this job would be in vain."""
        return self._held[job].is_lost
