"""Weights on request: brought in and kept on every worker, or out of all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contract.errors import FuseboxError, Unavailable, decode_error
from contract.function import FunctionRef
from contract.log import Log
from contract.store.wanted import Place, Progress, Want, WantReport
from contract.store.workers import WorkerReport
from gateway.answer import Answer, json_answer
from gateway.context import Gateway
from gateway.query import query_number

log = Log("gateway")
# Unless a request says how long it waits; weights that take longer go on without it.
WAIT_S = 30.0
# Reports are states, a heartbeat apart, and tell nobody that they have changed.
LOOK_S = 0.1
_UNDER_WAY = {Place.LOADED: "loading", Place.UNLOADED: "unloading"}


class Loading(NamedTuple):
    """What workers have made of a want."""

    want: Want
    progress: Progress
    # by id, of workers that do not drain
    workers: Mapping[str, WantReport]

    @property
    def state(self) -> str:
        """`loaded`, `loading`, `unloaded`, `unloading` or `failed`."""
        if self.progress is Progress.UNDER_WAY:
            return _UNDER_WAY[self.want.place]
        return str(self.want.place if self.progress is Progress.DONE else self.progress)

    @property
    def error(self) -> FuseboxError:
        """Why it failed: as the first worker says."""
        failed = next(r for r in self.workers.values() if r.progress == Progress.FAILED)
        return decode_error({"code": failed.code, "detail": failed.detail})


def answer(gateway: Gateway, name: str, place: Place, wait: str) -> Answer:
    """POST /v1/functions/<name>/load and /unload: 200 when it is so, 202 while it goes on."""
    found = fulfil(gateway, FunctionRef.parse(name), place, query_number("wait", wait, 0, 1e9))
    ref = found.want.ref
    workers = {worker: report.progress for worker, report in found.workers.items()}
    record = {"name": ref.name, "version": ref.version, "state": found.state, "workers": workers}
    return json_answer(record, 202 if found.progress is Progress.UNDER_WAY else 200)


def fulfil(gateway: Gateway, ref: FunctionRef, place: Place, wait_s: float) -> Loading:
    """Note the want, and wait until every worker has reported what it made of it.

    Loaded is what at least one worker could load; where none could, the want is taken back and the
    first reason raised. Raises UnknownFunction, RequestError, Unavailable, StoreUnavailable.
    """
    workers = gateway.store.workers
    if place is Place.LOADED and not _serving(workers.all()):
        raise Unavailable("There is no worker to load it.", missing=["worker"])
    want = gateway.store.wanted.want(ref, place)
    log.info("wanted", function=want.ref, place=place)
    give_up_at_s = time.monotonic() + min(wait_s, gateway.settings.max_wait_s)
    found = made_of(want, workers.all())
    while found.progress is Progress.UNDER_WAY:
        left_s = give_up_at_s - time.monotonic()
        if left_s <= 0 or gateway.draining.wait(min(LOOK_S, left_s)):
            return found
        found = made_of(want, workers.all())
    if found.progress is Progress.FAILED:
        gateway.store.wanted.withdraw(want)
        raise found.error
    return found


def made_of(want: Want, workers: Sequence[WorkerReport]) -> Loading:
    """What has become of a want by these reports."""
    waiting = WantReport(0, Progress.UNDER_WAY)
    reports = {}
    for worker in _serving(workers):
        report = worker.wanted.get(str(want.ref), waiting)
        reports[worker.id] = report if report.number == want.number else waiting
    return Loading(want, _together([Progress(r.progress) for r in reports.values()]), reports)


def _together(all_of: Sequence[Progress]) -> Progress:
    if Progress.UNDER_WAY in all_of:
        return Progress.UNDER_WAY
    is_done = Progress.DONE in all_of or not all_of
    return Progress.DONE if is_done else Progress.FAILED


def _serving(workers: Sequence[WorkerReport]) -> list[WorkerReport]:
    return [worker for worker in workers if not worker.is_draining]
