"""Staging: from a job's payload to tensors that fit its function, and back to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.job import Status
from contract.store.queue import Fetched
from contract.tensors import Tensors, check_names, encode_tensor, rows_of, unpack_tensors
from workers.handlers.hosts import HookCall, Hosts
from workers.records import Ended, Ran, Staged, Times

Find = Callable[[FunctionRef], Function]


class Sides(NamedTuple):
    """Jobs that go on, and jobs that ended."""

    staged: list[Staged]
    ended: list[Ended]


def check_inputs(function: Function, inputs: Tensors) -> int:
    """Rows of inputs that fit the function; raises InvalidInput naming the field."""
    manifest = function.manifest
    check_names(manifest.inputs, inputs)
    for spec in manifest.inputs:
        spec.check(inputs[spec.name])
    return rows_of(manifest.inputs, inputs, manifest.max_batch)


class Stager:
    """Runs hooks and checks what they give; functions are staged side by side."""

    def __init__(self, find: Find, hosts: Hosts, threads: ThreadPoolExecutor) -> None:
        self._find = find
        self._hosts = hosts
        self._threads = threads

    def stage(self, jobs: Iterable[Fetched]) -> Sides:
        """Inputs of every job, or how it ended."""
        by_function: dict[FunctionRef, list[Fetched]] = {}
        for job in jobs:
            by_function.setdefault(job.spec.ref, []).append(job)
        sides = Sides([], [])
        for ends in self._side_by_side(self._stage_function, list(by_function.items())):
            sides.staged.extend(one for one in ends if isinstance(one, Staged))
            sides.ended.extend(one for one in ends if isinstance(one, Ended))
        return sides

    def finish(self, ran: Iterable[Ran]) -> list[Ended]:
        """Results of jobs that were computed."""
        by_function: dict[FunctionRef, list[Ran]] = {}
        for one in ran:
            by_function.setdefault(one.job.function.ref, []).append(one)
        ends = self._side_by_side(self._finish_function, list(by_function.values()))
        return [ended for end in ends for ended in end]

    def _side_by_side(
        self, work: Callable[[Any], Sequence[Any]], parts: Sequence[Any]
    ) -> list[Sequence[Any]]:
        if len(parts) == 1:
            return [work(parts[0])]
        return list(self._threads.map(work, parts))

    def _stage_function(self, part: tuple[FunctionRef, list[Fetched]]) -> Sequence[Staged | Ended]:
        ref, jobs = part
        try:
            function = self._find(ref)
        except FuseboxError as error:
            return [Ended.failed(job, error) for job in jobs]
        if not function.manifest.has_preprocess:
            return [_staged(function, job, None, 0.0) for job in jobs]
        began_s = time.perf_counter()
        calls = [
            HookCall(job.spec.id, job.spec.deadline_s, [job.spec.payload_type, job.payload])
            for job in jobs
        ]
        results = self._hosts.preprocess(function, calls)
        hooks_s = time.perf_counter() - began_s
        return [
            _staged(function, job, result, hooks_s)
            for job, result in zip(jobs, results, strict=True)
        ]

    def _finish_function(self, ran: list[Ran]) -> list[Ended]:
        function = ran[0].job.function
        if not function.manifest.has_postprocess:
            return [_succeeded(one, outputs=one.outputs) for one in ran]
        began_s = time.perf_counter()
        results = self._hosts.postprocess(function, [_post_call(one) for one in ran])
        hooks_s = time.perf_counter() - began_s
        ended = []
        for one, result in zip(ran, results, strict=True):
            times = one.times._replace(hooks_s=one.times.hooks_s + hooks_s)
            if isinstance(result, FuseboxError):
                ended.append(Ended.failed(one.job, result, times=times))
            else:
                ended.append(_succeeded(one, result=result, times=times))
        return ended


def _post_call(ran: Ran) -> HookCall:
    records = {name: encode_tensor(tensor) for name, tensor in ran.outputs.items()}
    return HookCall(ran.job.spec.id, ran.job.spec.deadline_s, records)


def _staged(
    function: Function, job: Fetched, inputs: Tensors | FuseboxError | None, hooks_s: float
) -> Staged | Ended:
    try:
        if isinstance(inputs, FuseboxError):
            raise inputs
        if inputs is None:
            inputs = unpack_tensors(job.payload)
        rows = check_inputs(function, inputs)
    except FuseboxError as error:
        return Ended.failed(job, error, times=Times(hooks_s=hooks_s))
    return Staged(job.claim, job.spec, function, inputs, rows, hooks_s)


def _succeeded(ran: Ran, **fields: Any) -> Ended:
    job = ran.job
    values: Mapping[str, Any] = {"times": ran.times, **fields}
    return Ended(job.claim, job.spec, Status.SUCCEEDED, job.rows, **values)
