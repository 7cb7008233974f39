"""Groups that run often are captured in idle moments, the most used first: CUDA alone.

A request never waits for more than the one capture that is under way when it comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.log import Log
from fusion.cache import DagCache
from fusion.dag import FusedDag
from fusion.device import Device
from fusion.errors import BudgetExceeded, FusionError
from fusion.graphs.cache import GraphCache
from fusion.graphs.graphs import Graphs
from fusion.measurements import HotGroup
from fusion.members import DagKey
from fusion.slots import SlotTable
from workers.calls import weights_of
from workers.compute import Computer
from workers.dags import Dags, make_member
from workers.library import Library, Loaded

log = Log("capturing")
# A capture takes as long as some tens of runs: a group that ran less often may never come again.
AFTER_RUNS = 8
# of what was measured at deploy: a capture warms up beside the memory that its graph will keep
SCRATCH_TIMES = 2


class Capturing:
    """`look` is called now and then, by one thread; captures run on a thread of their own.

    `is_idle` says whether no group is under way.
    """

    def __init__(
        self,
        graphs: Graphs,
        dags: Dags,
        library: Library,
        slots: SlotTable,
        computer: Computer,
        find: Callable[[FunctionRef], Function],
        is_idle: Callable[[], bool],
    ) -> None:
        self._graphs = graphs
        self._dags = dags
        self._library = library
        self._slots = slots
        self._computer = computer
        self._find = find
        self._is_idle = is_idle
        self._stopped = threading.Event()
        # torch keeps kernels' handles and plans by thread, so all captures are one thread's
        self._thread = ThreadPoolExecutor(1, "capturing")
        self._under_way: Future[int] | None = None
        self._told: set[tuple[str, int]] = set()

    def look(self) -> None:
        """Begin to capture where nothing is to be run."""
        if self._under_way is not None:
            if not self._under_way.done():
                return
            self._end()
        if self._is_free():
            self._under_way = self._thread.submit(self.capture)

    def stop(self) -> None:
        """Finish the capture that is under way and begin no other."""
        self._stopped.set()
        self._thread.shutdown()

    def capture(self) -> int:
        """Capture what hot groups lack, as long as nothing is to be run; how many graphs."""
        count = 0
        for group in self._dags.hot():
            while group.runs >= AFTER_RUNS and self._is_free() and self._capture_next(group):
                count += 1
        if count:
            log.info("captured", count=count, **self._graphs.cache.stats()._asdict())
        self._tell_refused()
        return count

    def _end(self) -> None:
        ended, self._under_way = self._under_way, None
        try:
            if ended is not None:
                ended.result()
        except Exception:  # runs go on as they did, and say what is wrong with the device
            log.exception("capturing_given_up")
            self._stopped.set()

    def _is_free(self) -> bool:
        return self._is_idle() and not self._stopped.is_set()

    def _capture_next(self, group: HotGroup) -> bool:
        try:
            functions = [self._find(FunctionRef.parse(ref)) for ref, _ in group.members]
            loaded = [self._library.get(function) for function in functions]
        except (FuseboxError, FusionError, OSError) as error:
            log.info("group_not_captured", functions=len(group.members), reason=error)
            return False
        # weights are not swapped in for this: where they would lie is not where they will
        if not {each.slot.key for each in loaded} <= {*self._slots.stats().resident}:
            return False
        rows = [rows for _, rows in group.members]
        scratch_bytes = SCRATCH_TIMES * sum(
            function.manifest.activation_bytes_at(count)
            for function, count in zip(functions, rows, strict=True)
        )
        try:
            return self._capture_with(loaded, rows, scratch_bytes)
        except (BudgetExceeded, TimeoutError) as error:
            log.info("group_not_captured", functions=len(group.members), reason=error)
            return False

    def _capture_with(self, loaded: Sequence[Loaded], rows: list[int], scratch_bytes: int) -> bool:
        slots = [each.slot for each in loaded]
        with (
            self._slots.acquire(slots, scratch_bytes, timeout_s=0) as lease,
            self._computer.spare_device() as is_spare,
        ):
            if not is_spare:
                return False
            members, weights = [], []
            for each, count in zip(loaded, rows, strict=True):
                body = each.at(count)
                is_alone = len(loaded) == 1
                members.append(make_member(body.program, count, body.weight_keys, is_alone))
                weights.append(weights_of(lease, each.slot.key, body.graph))
            return self._dags.capture_next(members, weights)

    def _tell_refused(self) -> None:
        for key, reason in [*self._graphs.refused.items()]:
            if key not in self._told:
                self._told.add(key)
                log.info("not_captured", architecture=key[0], rows=key[1], reason=reason)


def open_graphs(device: Device, budget_bytes: int, slots: SlotTable) -> Graphs | None:
    """Captured graphs of a GPU, counted in the budget of its slots; a CPU has none."""
    if device.kind == "cpu":
        return None
    from fusion.graphs.cuda import CudaBackend  # a CPU worker has no use for it

    return Graphs(CudaBackend(device.ordinal), GraphCache(budget_bytes, slots.charge, slots.refund))


def reclaiming(cache: DagCache[DagKey, FusedDag], graphs: Graphs | None) -> Callable[[int], int]:
    """First what costs milliseconds to make again."""

    def reclaim(bytes_: int) -> int:
        freed_bytes = cache.shrink(bytes_)
        if graphs is not None and freed_bytes < bytes_:
            freed_bytes += graphs.cache.shrink(bytes_ - freed_bytes)
        return freed_bytes

    return reclaim
