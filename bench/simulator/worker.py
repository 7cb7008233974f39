"""A simulated worker: places, staging beside computing, weights, one run at a time.

The steps of a group are those of `workers.executor` and `workers.compute`: fetch and hooks, slots,
the device's turn, a last look at deadlines, the fused DAG, the run, hooks, settlement.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from contract.function import FunctionRef
from workers.scheduling.records import Dispatch, FunctionView, PendingJob, WorkerView

from .fleet import Device
from .memory import Dags, Weights
from .profiles import Bandwidth, Draw


@dataclass(slots=True)
class GroupRun:
    """A group on its way through a worker."""

    number: int
    worker: Worker
    dispatch: Dispatch
    jobs: Sequence[PendingJob]
    rows: dict[FunctionRef, int] = field(default_factory=dict)
    swap_s: float = 0.0
    swap_bytes: int = 0
    build_s: float = 0.0
    compute_s: float = 0.0
    started_s: float = 0.0
    expired: list[PendingJob] = field(default_factory=list)

    def count_rows(self) -> None:
        """Rows by function of the jobs that are left."""
        self.rows = {}
        for job in self.jobs:
            self.rows[job.function] = self.rows.get(job.function, 0) + job.rows


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
        # as the scheduler knows them: sent, and not yet heard of again; group -> predicted seconds
        self._sent: dict[int, float] = {}
        self._arriving: dict[int, frozenset[FunctionRef]] = {}
        self._view: WorkerView | None = None

    def view(self) -> WorkerView:
        """As the policy sees it."""
        if self._view is None:
            resident = self.weights.resident
            for functions in self._arriving.values():
                resident |= functions
            self._view = WorkerView(
                self.device.id,
                self.device.places - len(self._sent),
                self.device.budget_bytes,
                resident,
                sum(self._sent.values()) if self._sent else None,
                resident_bytes=self.weights.bytes,
            )
        return self._view

    def send(self, group: GroupRun) -> None:
        """The scheduler has sent a group: it takes a place."""
        group.count_rows()
        self._sent[group.number] = group.dispatch.predicted_s
        arriving = group.rows.keys() - self.weights.resident
        if arriving:
            self._arriving[group.number] = frozenset(arriving)
        self._view = None

    def heard(self, group: GroupRun) -> None:
        """The scheduler has heard that a group is over."""
        del self._sent[group.number]
        self._arriving.pop(group.number, None)
        self._view = None

    def stage(self, group: GroupRun) -> bool:
        """Bring in a group's weights, `swap_s` long; False: it waits until others let theirs go."""
        group.count_rows()
        found = None if self._starved else self.weights.acquire(group.rows)
        if found is None:
            self._starved.append(group)
            return False
        self._take_in(group, found.host_bytes, found.disk_bytes, found.count)
        return True

    def unstarved(self) -> list[GroupRun]:
        """Groups that had to wait for room and have it now; their weights come in from here on."""
        found = []
        while self._starved:
            loads = self.weights.acquire(self._starved[0].rows)
            if loads is None:
                break
            group = self._starved.popleft()
            self._take_in(group, loads.host_bytes, loads.disk_bytes, loads.count)
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
        group.expired = [job for job in group.jobs if job.deadline_s <= now_s]
        if not group.expired:
            running = group.rows
        else:
            group.jobs = [job for job in group.jobs if job.deadline_s > now_s]
            running = {}
            for job in group.jobs:
                running[job.function] = running.get(job.function, 0) + job.rows
        if running:
            group.compute_s = self._draw.compute_s(running) / self.device.speed
            if not self._dags.find(running):
                group.build_s = self._draw.build_s(len(running)) / self.device.speed
                self.builds += 1
        self.busy_s += group.build_s + group.compute_s
        return group

    def end_run(self, group: GroupRun) -> None:
        """The device is free again, and the group's weights may leave."""
        self._is_computing = False
        self.weights.release(group.rows)

    def _take_in(self, group: GroupRun, host_bytes: int, disk_bytes: int, count: int) -> None:
        if not count:
            return
        group.swap_bytes = host_bytes + disk_bytes
        group.swap_s = (
            count * self._bandwidth.load_s
            + host_bytes / self._bandwidth.host_bytes_per_s
            + disk_bytes / self._bandwidth.disk_bytes_per_s
        )
        self.loads += count
        self.loaded_bytes += group.swap_bytes
        self._view = None
