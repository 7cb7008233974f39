"""A simulated worker: places, staging beside computing, weights, one run at a time.

The steps of a group are those of `workers.executor` and `workers.compute`: fetch and hooks, slots,
the device's turn, a last look at deadlines, the fused DAG, the run, hooks, settlement.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.function import FunctionRef
from workers.scheduling.records import Dispatch, FunctionView, PendingJob, WorkerView

from .fleet import Device
from .memory import NO_LOADS, Dags, Loads, Weights
from .profiles import Bandwidth, Draw


@dataclass(slots=True)
class GroupRun:
    """A group on its way through a worker."""

    number: int
    worker: Worker
    dispatch: Dispatch
    jobs: Sequence[PendingJob]
    # by function: of all its jobs, and of those that were not expired when it began to compute
    rows: dict[FunctionRef, int] = field(init=False)
    ran: dict[FunctionRef, int] = field(init=False)
    loads: Loads = NO_LOADS
    swap_s: float = 0.0
    disk_s: float = 0.0
    build_s: float = 0.0
    compute_s: float = 0.0
    started_s: float = 0.0
    expired: list[PendingJob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self.ran = self._count_rows()

    def expire(self, now_s: float) -> None:
        """The last look at deadlines before it computes."""
        self.expired = [job for job in self.jobs if job.deadline_s <= now_s]
        if self.expired:
            self.jobs = [job for job in self.jobs if job.deadline_s > now_s]
            self.ran = self._count_rows()

    def _count_rows(self) -> dict[FunctionRef, int]:
        rows: dict[FunctionRef, int] = {}
        for job in self.jobs:
            rows[job.function] = rows.get(job.function, 0) + job.rows
        return rows


class _Sent(NamedTuple):
    """A group that takes a place."""

    predicted_s: float
    at_s: float
    names: Collection[str]


class Worker:
    """What one worker holds and does; times are handed in."""

    def __init__(
        self,
        device: Device,
        functions: Mapping[FunctionRef, FunctionView],
        draw: Draw,
        bandwidth: Bandwidth,
        is_warm: bool,
    ) -> None:
        self.device = device
        self.weights = Weights(device.budget_bytes, functions)
        if is_warm:
            self.weights.warm()
        self.loads = self.loaded_bytes = self.builds = 0
        self.busy_s = 0.0
        self._draw = draw
        self._bandwidth = bandwidth
        self._dags = Dags(device.dags)
        # groups whose weights do not fit beside what is pinned
        self._starved: deque[GroupRun] = deque()
        # staged groups that wait for the device
        self._ready: deque[GroupRun] = deque()
        self._is_computing = False
        # as the scheduler knows them, in order: sent, and not yet heard of again
        self._sent: dict[int, _Sent] = {}
        self._heard_at_s = 0.0
        # relative to the mean of all workers
        self.speed = 1.0
        self._arriving: dict[int, frozenset[FunctionRef]] = {}
        # the last one, while nothing but time has passed
        self._view: WorkerView | None = None
        self._viewed_at_s = 0.0

    def view(self, now_s: float) -> WorkerView:
        """As the policy sees it."""
        view = self._view
        if view is None:
            view = self._view = self._seen(now_s)
        elif self._sent and now_s != self._viewed_at_s:
            # of dataclasses.replace, only what it does
            view = self._view = WorkerView(
                view.id,
                view.free_places,
                view.budget_bytes,
                view.resident,
                view.under_way_s,
                view.behind,
                view.resident_bytes,
                self._remaining_s(now_s),
                view.speed,
                view.groups_of,
                view.hosted,
                view.cached,
            )
        self._viewed_at_s = now_s
        return view

    def _seen(self, now_s: float) -> WorkerView:
        return WorkerView(
            self.device.id,
            self.device.places - len(self._sent),
            self.device.budget_bytes,
            self.weights.resident.union(*self._arriving.values()),
            sum(its.predicted_s for its in self._sent.values()) if self._sent else None,
            resident_bytes=self.weights.bytes,
            remaining_s=self._remaining_s(now_s),
            speed=self.speed,
            groups_of=self._groups_of(),
            hosted=self.weights.hosted,
            cached=self._dags.kept,
        )

    @property
    def is_idle(self) -> bool:
        """Whether it has no group, as far as the scheduler knows."""
        return not self._sent

    def _groups_of(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for its in self._sent.values():
            for name in its.names:
                found[name] = found.get(name, 0) + 1
        return found

    def _remaining_s(self, now_s: float) -> float | None:
        """As the scheduler's state works it out: groups run in the order they were sent."""
        if not self._sent:
            return None
        first, *rest = self._sent.values()
        began_s = max(first.at_s, self._heard_at_s)
        first_s = max(0.0, began_s + first.predicted_s - now_s)
        return first_s + sum(its.predicted_s for its in rest)

    def send(self, group: GroupRun, now_s: float) -> None:
        """The scheduler has sent a group: it takes a place."""
        names = {ref.name for ref in group.rows}
        self._sent[group.number] = _Sent(group.dispatch.predicted_s, now_s, names)
        arriving = group.rows.keys() - self.weights.resident
        if arriving:
            self._arriving[group.number] = frozenset(arriving)
        self._view = None

    def heard(self, group: GroupRun, now_s: float) -> None:
        """The scheduler has heard that a group is over."""
        del self._sent[group.number]
        self._arriving.pop(group.number, None)
        self._heard_at_s = now_s
        self._view = None

    def stage(self, group: GroupRun) -> bool:
        """Bring in a group's weights, `swap_s` long; False: it waits until others let theirs go."""
        loads = None if self._starved else self.weights.acquire(group.rows)
        if loads is None:
            self._starved.append(group)
            return False
        self._take_in(group, loads)
        return True

    def unstarved(self) -> list[GroupRun]:
        """Groups that had to wait for room and have it now; their weights come in from here on."""
        found = []
        while self._starved:
            loads = self.weights.acquire(self._starved[0].rows)
            if loads is None:
                break
            group = self._starved.popleft()
            self._take_in(group, loads)
            found.append(group)
        return found

    def make_ready(self, group: GroupRun) -> None:
        """All that a group needs is there but the device."""
        self._ready.append(group)

    def next_run(self, now_s: float) -> GroupRun | None:
        """The group that gets the device now, `build_s` and `compute_s` long.

        Where all of its jobs are past their deadlines it computes nothing, in no time.
        """
        if self._is_computing or not self._ready:
            return None
        group = self._ready.popleft()
        self._is_computing = True
        group.started_s = now_s
        group.expire(now_s)
        if group.ran:
            group.compute_s = self._draw.compute_s(group.ran) / self.device.speed
            if not self._dags.find(group.ran):
                group.build_s = self._draw.build_s(len(group.ran)) / self.device.speed
                self.builds += 1
        self.busy_s += group.build_s + group.compute_s
        return group

    def end_run(self, group: GroupRun) -> None:
        """The device is free again, and the group's weights may leave."""
        self._is_computing = False
        self.weights.release(group.rows)

    def _take_in(self, group: GroupRun, loads: Loads) -> None:
        self._view = None
        if not loads.count:
            return
        group.loads = loads
        group.disk_s = loads.disk_bytes / self._bandwidth.disk_bytes_per_s
        host_s = loads.host_bytes / self._bandwidth.host_bytes_per_s
        group.swap_s = loads.count * self._bandwidth.load_s + host_s + group.disk_s
        self.loads += loads.count
        self.loaded_bytes += loads.bytes
