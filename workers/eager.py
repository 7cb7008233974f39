"""Functions that run eagerly: in a host of their own, in the device's turn, in the budget."""

from __future__ import annotations

import threading
import time
from collections import deque
from statistics import median

import numpy as np

from contract.errors import FuseboxError, HandlerFailed
from contract.function import Function, FunctionRef
from contract.log import Log
from contract.tensors import Tensors, encode_tensor
from fusion.device import Device
from fusion.plan import row_bucket
from fusion.slots import SlotRequest, SlotTable
from workers.calls import scratch_bytes
from workers.claims import Claims
from workers.compute import DeviceTurn, Results, launchable
from workers.eager_slots import EagerLoader
from workers.handlers.hosts import HookCall, Hosts
from workers.library import Library
from workers.measuring import in_ms
from workers.records import Ended, Ran, Tally, Times
from workers.runs import Batch
from workers.translation import translate

log = Log("eager")
TIMES_KEPT = 9
EAGER = "eager"


class EagerRuns:
    """Runs batches of eager functions; called from several threads."""

    def __init__(
        self,
        library: Library,
        slots: SlotTable,
        hosts: Hosts,
        claims: Claims,
        turn: DeviceTurn,
        device: Device,
    ) -> None:
        self._library = library
        self._slots = slots
        self._hosts = hosts
        self._claims = claims
        self._turn = turn
        self._device = device
        self._lock = threading.Lock()
        # seconds of the latest runs, by function and row bucket
        self._latest_s: dict[FunctionRef, dict[int, deque[float]]] = {}

    def run(self, batch: Batch, tally: Tally) -> Results:
        """One run of joined jobs; one by one where forward fails on them together."""
        try:
            results, failed = self._attempt(batch, tally)
        except Exception as error:  # whatever an artifact or its host breaks is its own
            log.exception("eager_run_failed", function=batch[0].function.ref, jobs=len(batch))
            return Results([], [Ended.failed(job, translate(error)) for job in batch])
        tally.isolated += bool(failed)
        for job in failed:
            results.extend(self.run((job,), tally))
        return results

    def request(self, function: Function) -> SlotRequest:
        """Its slot, in which it is while its host runs; WeightsError where it is broken."""
        loader = EagerLoader(function, self._hosts, self._device, self._slots)
        return self._library.get_eager(function, loader)

    def measured(self) -> dict[str, dict[str, dict[str, float]]]:
        """Milliseconds by function and rows, as of tiers, for people."""
        with self._lock:
            return {
                str(ref): {
                    str(rows): in_ms({EAGER: median(seconds)})
                    for rows, seconds in sorted(by_rows.items())
                }
                for ref, by_rows in self._latest_s.items()
            }

    def forget(self) -> None:
        """Functions were removed."""
        with self._lock:
            self._latest_s.clear()

    def _attempt(self, batch: Batch, tally: Tally) -> tuple[Results, Batch]:
        """What came of the jobs, and those that failed together and have to run one by one."""
        function = batch[0].function
        request = self.request(function)
        began_s = time.perf_counter()
        with self._slots.acquire([request], scratch_bytes(batch)) as lease:
            # its host may have ended since it became resident
            self._hosts.start(function)
            swap_s = time.perf_counter() - began_s
            # not summed: a start is not the bandwidth that swapping is predicted with
            tally.cold.update(key.partition("@")[0] for key in lease.cold)
            with self._turn.device:
                wait_s = time.perf_counter() - began_s - swap_s
                run, ended = launchable((batch,), self._claims, tally)
                if not run:
                    return Results([], ended), ()
                times = Times(wait_s=wait_s, swap_s=swap_s)
                results = self._launch(run[0], times, tally)
        if results is None:
            return Results([], ended), run[0]
        results.ended.extend(ended)
        return results, ()

    def _launch(self, batch: Batch, times: Times, tally: Tally) -> Results | None:
        """None where several jobs failed together."""
        function = batch[0].function
        began_s = time.perf_counter()
        found = self._forward(function, batch)
        compute_s = time.perf_counter() - began_s
        self._turn.after_run()
        tally.compute_s += compute_s
        tally.note_run(EAGER, compute_s, time.time())
        tally.note_member(function.ref, EAGER, compute_s)
        rows = [job.rows for job in batch]
        times = times._replace(compute_s=compute_s)
        if isinstance(found, FuseboxError):
            if len(batch) > 1:
                return None
            times = times._replace(hooks_s=batch[0].hooks_s)
            return Results([], [Ended.failed(batch[0], found, times=times)])
        self._note(function.ref, sum(rows), compute_s)
        ends = np.cumsum(rows)
        parts = [
            {name: tensor[end - n : end] for name, tensor in found.items()}
            for n, end in zip(rows, ends, strict=True)
        ]
        ran = [
            Ran(job, outputs, times._replace(hooks_s=job.hooks_s))
            for job, outputs in zip(batch, parts, strict=True)
        ]
        return Results(ran, [])

    def _forward(self, function: Function, batch: Batch) -> Tensors | FuseboxError:
        names = [spec.name for spec in function.manifest.inputs]
        joined = {name: np.concatenate([job.inputs[name] for job in batch]) for name in names}
        item = {name: encode_tensor(tensor) for name, tensor in joined.items()}
        deadline_s = max(job.spec.deadline_s for job in batch)
        (found,) = self._hosts.forward(function, [HookCall(batch[0].spec.id, deadline_s, item)])
        if isinstance(found, FuseboxError):
            return found
        return _checked(function, found, sum(job.rows for job in batch))

    def _note(self, ref: FunctionRef, rows: int, seconds: float) -> None:
        with self._lock:
            by_rows = self._latest_s.setdefault(ref, {})
            by_rows.setdefault(row_bucket(rows), deque(maxlen=TIMES_KEPT)).append(seconds)


def _checked(function: Function, outputs: Tensors, rows: int) -> Tensors | HandlerFailed:
    """The outputs, if they are what the manifest says: a host is not trusted."""
    specs = function.manifest.outputs
    if outputs.keys() != {spec.name for spec in specs}:
        want = ", ".join(spec.name for spec in specs)
        got = ", ".join(sorted(outputs))
        return HandlerFailed(f"{function.ref} forward: expected outputs {want}, got {got:.200}")
    for spec in specs:
        found = outputs[spec.name]
        shape = (rows, *spec.shape[1:])
        if found.dtype.name != spec.dtype or found.shape != shape:
            return HandlerFailed(
                f"{function.ref} forward: output {spec.name}: expected {spec.dtype} "
                f"{list(shape)}, got {found.dtype.name} {list(found.shape)}"
            )
    return outputs
