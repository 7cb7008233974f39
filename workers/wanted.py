"""Weights that operators want in memory, or out of it: brought in, kept and given up by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from contract.errors import FuseboxError, StoreUnavailable
from contract.function import Function, FunctionRef
from contract.log import Log
from contract.store.wanted import Place, Progress, Want, WantReport
from fusion.errors import FusionError
from fusion.slots import KEPT_S, SlotRequest, SlotTable
from workers.library import Library
from workers.translation import translate

log = Log("wanted")
# Groups that come while a load waits for room wait behind it, so it waits no longer at a time.
PATIENCE_S = 5.0
# of an error, in reports
DETAIL_CHARS = 300


class Parts(NamedTuple):
    """What wants are fulfilled with."""

    slots: SlotTable
    library: Library
    # the version's record; raises FuseboxError
    find: Callable[[FunctionRef], Function]
    # its weights as jobs would ask for them
    request: Callable[[Function], SlotRequest]


class Wants:
    """Thread-safe; weights come and go on one thread of its own, the oldest want first."""

    def __init__(self, read: Callable[[], Sequence[Want]], parts: Parts) -> None:
        self._read = read
        self._parts = parts
        self._changed = threading.Condition()  # guards all below
        self._looks = 0
        self._is_stopped = False
        self._wants: dict[str, Want] = {}
        self._reports: dict[str, WantReport] = {}

    def look(self) -> None:
        """Read what is wanted; a chore of every heartbeat."""
        try:
            wants = {str(want.ref): want for want in self._read()}
        except StoreUnavailable:
            return
        with self._changed:
            gone = self._wants.keys() - wants.keys()
            self._wants = wants
            self._reports = {
                key: self._reports[key]
                if key in self._reports and self._reports[key].number == want.number
                else WantReport(want.number, Progress.UNDER_WAY)
                for key, want in wants.items()
            }
            if wants or gone or self._parts.library.kept:
                self._looks += 1
                self._changed.notify_all()

    def reports(self) -> dict[str, WantReport]:
        """How far each want is, by NAME@VERSION."""
        with self._changed:
            return dict(self._reports)

    def start(self) -> Callable[[], None]:
        """Fulfil wants on a thread; the function that stops it."""
        threading.Thread(target=self._run, name="wanted", daemon=True).start()
        return self._stop

    def fulfil(self) -> None:
        """Do what can be done now for every want that is not fulfilled."""
        with self._changed:
            wants = sorted(self._wants.values(), key=lambda want: want.number)
        for key in self._parts.library.kept - {str(want.ref) for want in wants}:
            # taken back: removed, or no worker had room
            self._let_go(key)
        for want in wants:
            if self._is_stopped:
                return
            if self._is_due(want):
                self._note(want, self._try(want))

    def _run(self) -> None:
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._is_stopped or self._looks != seen)  # type: ignore[misc]  # of the lambda
                if self._is_stopped:
                    return
                seen = self._looks
            try:
                self.fulfil()
            except Exception:  # a want is no job: this thread serves on
                log.exception("wants_failed")

    def _stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _is_due(self, want: Want) -> bool:
        """Whether it is new, still waits, or its weights have left all the same."""
        key = str(want.ref)
        with self._changed:
            report = self._reports.get(key)
        if report is None or report.number != want.number:
            return False  # replaced meanwhile: the next look has the newer one
        if report.progress == Progress.DONE and want.place is Place.LOADED:
            return key not in self._parts.slots.stats().resident
        return report.progress == Progress.UNDER_WAY

    def _note(self, want: Want, report: WantReport) -> None:
        with self._changed:
            if self._wants.get(str(want.ref)) == want:
                self._reports[str(want.ref)] = report

    def _try(self, want: Want) -> WantReport:
        key = str(want.ref)
        if want.place is Place.UNLOADED:
            is_out = self._let_go(key)
            return WantReport(want.number, Progress.DONE if is_out else Progress.UNDER_WAY)
        try:
            self._bring_in(key, want.ref)
        except TimeoutError:
            log.debug("waits_for_room", function=key)
            return WantReport(want.number, Progress.UNDER_WAY)
        except (FuseboxError, FusionError, OSError, RuntimeError) as error:
            log.warning("not_loaded", function=key, reason=error)
            why = translate(error)
            detail = why.detail[:DETAIL_CHARS]
            return WantReport(want.number, Progress.FAILED, why.code, detail)
        log.info("loaded", function=key)
        return WantReport(want.number, Progress.DONE)

    def _bring_in(self, key: str, ref: FunctionRef) -> None:
        """Have it in a slot that is kept; raises TimeoutError and what a load raises."""
        request = self._parts.request(self._parts.find(ref))
        kept = replace(request, keep_alive_s=KEPT_S)
        lease = self._parts.slots.acquire([kept], timeout_s=PATIENCE_S)
        lease.has_run = False
        # Jobs of it ask for its slot too, and the newest request says how long it stays: one made
        # before this line may undo it until the next. Should it leave, it is brought in again.
        self._parts.library.kept.add(key)
        lease.release()

    def _let_go(self, key: str) -> bool:
        """Keep it no longer and take it out of its slot; False while groups hold it."""
        self._parts.library.kept.discard(key)
        return self._parts.slots.evict(key) or key not in self._parts.slots.stats().resident
