"""Staging: from a job's payload to tensors that fit its function, and back to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.job import Status
from contract.store.queue import Fetched
from contract.tensors import Tensors, check_names, encode_tensor, rows_of, unpack_tensors
from workers.fetching.artifacts import Fetching
from workers.handlers.hosts import HookCall, Hosts
from workers.paces import Paces, Split
from workers.records import Ended, Ran, Staged, Times

T = TypeVar("T")
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
    return rows_of(manifest.inputs, inputs, manifest.max_batch, manifest.rows_allowed)


class Stager:
    """Runs hooks and checks what they give; functions are staged side by side.

    What is behind is given as futures: a group goes on without the functions whose hooks are slow.
    """

    def __init__(
        self,
        find: Find,
        hosts: Hosts,
        threads: ThreadPoolExecutor,
        paces: Paces,
        fetching: Fetching | None = None,
    ) -> None:
        self._find = find
        self._fetching = fetching
        self._hosts = hosts
        self._threads = threads
        self._paces = paces

    def with_preprocess(self, jobs: Iterable[Fetched]) -> set[FunctionRef]:
        """Functions of these jobs that staging takes a while for."""
        return {ref for ref in {job.spec.ref for job in jobs} if self._takes_long(ref)}

    def stage(self, jobs: Iterable[Fetched]) -> Split[Sides]:
        """Inputs of every job, or how it ended, by function."""
        by_function: dict[FunctionRef, list[Fetched]] = {}
        for job in jobs:
            by_function.setdefault(job.spec.ref, []).append(job)
        with_hook = {ref for ref in by_function if self._takes_long(ref)}
        return self._side_by_side(self._stage_function, by_function, with_hook)

    def finish(self, ran: Iterable[Ran]) -> Split[list[Ended]]:
        """Results of jobs that were computed, by function."""
        by_function: dict[FunctionRef, list[Ran]] = {}
        for one in ran:
            by_function.setdefault(one.job.function.ref, []).append(one)
        with_hook = {ref for ref in by_function if self._has(ref, "has_postprocess")}
        return self._side_by_side(self._finish_function, by_function, with_hook)

    def _side_by_side(
        self,
        work: Callable[[FunctionRef, list[Any]], T],
        parts: Mapping[FunctionRef, list[Any]],
        with_hook: set[FunctionRef],
    ) -> Split[T]:
        futures = {ref: self._threads.submit(work, ref, parts[ref]) for ref in with_hook}
        rest = [work(ref, part) for ref, part in parts.items() if ref not in with_hook]
        done, behind = self._paces.split(futures)
        return Split(rest + done, behind)

    def _takes_long(self, ref: FunctionRef) -> bool:
        """Whether it has a hook, or its artifact has to be fetched."""
        return self._has(ref, "has_preprocess") or not self._is_here(ref)

    def _is_here(self, ref: FunctionRef) -> bool:
        try:
            return self._fetching is None or self._fetching.is_here(self._find(ref))
        except FuseboxError:
            return True  # as in `_has`

    def _has(self, ref: FunctionRef, hook: str) -> bool:
        try:
            return bool(getattr(self._find(ref).manifest, hook))
        except FuseboxError:
            # the work itself finds out what it is, and ends the jobs with it
            return False

    def _stage_function(self, ref: FunctionRef, jobs: list[Fetched]) -> Sides:
        try:
            function = self._find(ref)
            if self._fetching is not None:
                self._fetching.bring(function)
        except FuseboxError as error:
            return Sides([], [Ended.failed(job, error) for job in jobs])
        if not function.manifest.has_preprocess:
            return _sides(_staged(function, job, None, 0.0) for job in jobs)
        began_s = time.perf_counter()
        calls = [
            HookCall(job.spec.id, job.spec.deadline_s, [job.spec.payload_type, job.payload])
            for job in jobs
        ]
        results = self._hosts.preprocess(function, calls)
        hooks_s = time.perf_counter() - began_s
        self._paces.note(ref, hooks_s)
        return _sides(
            _staged(function, job, result, hooks_s)
            for job, result in zip(jobs, results, strict=True)
        )

    def _finish_function(self, ref: FunctionRef, ran: list[Ran]) -> list[Ended]:
        function = ran[0].job.function
        if not function.manifest.has_postprocess:
            return [_succeeded(one, outputs=one.outputs) for one in ran]
        began_s = time.perf_counter()
        results = self._hosts.postprocess(function, [_post_call(one) for one in ran])
        hooks_s = time.perf_counter() - began_s
        self._paces.note(ref, hooks_s)
        ended = []
        for one, result in zip(ran, results, strict=True):
            times = one.times._replace(hooks_s=one.times.hooks_s + hooks_s)
            if isinstance(result, FuseboxError):
                ended.append(Ended.failed(one.job, result, times=times))
            else:
                ended.append(_succeeded(one, result=result, times=times))
        return ended


def _sides(ends: Iterable[Staged | Ended]) -> Sides:
    sides = Sides([], [])
    for one in ends:
        if isinstance(one, Staged):
            sides.staged.append(one)
        else:
            sides.ended.append(one)
    return sides


def _post_call(ran: Ran) -> HookCall:
    records = {name: encode_tensor(tensor) for name, tensor in ran.outputs.items()}
    return HookCall(ran.job.spec.id, ran.job.spec.deadline_s, records, ran.job.claim.fence)


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
