"""Weights that operators want in memory, or out of it: brought in, kept and given up by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from contract.errors import FuseboxError, StoreUnavailable
from contract.function import Function, FunctionRef
from contract.log import Log
from contract.store.wanted import Place, Progress, Wish, WishReport
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
    """What wishes are fulfilled with."""

    slots: SlotTable
    library: Library
    # the version's record; raises FuseboxError
    find: Callable[[FunctionRef], Function]
    # its weights as jobs would ask for them
    request: Callable[[Function], SlotRequest]


class Wishes:
    """Thread-safe; weights come and go on one thread of its own, the oldest wish first."""

    def __init__(self, read: Callable[[], Sequence[Wish]], parts: Parts) -> None:
        self._read = read
        self._parts = parts
        self._changed = threading.Condition()  # guards all below
        self._looks = 0
        self._is_stopped = False
        self._wishes: dict[str, Wish] = {}
        self._reports: dict[str, WishReport] = {}

    def look(self) -> None:
        """Read what is wanted; a chore of every heartbeat."""
        try:
            wishes = {str(wish.ref): wish for wish in self._read()}
        except StoreUnavailable:
            return
        with self._changed:
            gone = self._wishes.keys() - wishes.keys()
            self._wishes = wishes
            self._reports = {
                key: self._reports[key]
                if key in self._reports and self._reports[key].number == wish.number
                else WishReport(wish.number, Progress.UNDER_WAY)
                for key, wish in wishes.items()
            }
            if wishes or gone or self._parts.library.kept:
                self._looks += 1
                self._changed.notify_all()

    def reports(self) -> dict[str, WishReport]:
        """How far each wish is, by NAME@VERSION."""
        with self._changed:
            return dict(self._reports)

    def start(self) -> Callable[[], None]:
        """Fulfil wishes on a thread; the function that stops it."""
        threading.Thread(target=self._run, name="wanted", daemon=True).start()
        return self._stop

    def fulfil(self) -> None:
        """Do what can be done now for every wish that is not fulfilled."""
        with self._changed:
            wishes = sorted(self._wishes.values(), key=lambda wish: wish.number)
        for key in self._parts.library.kept - {str(wish.ref) for wish in wishes}:
            # taken back: removed, or no worker had room
            self._let_go(key)
        for wish in wishes:
            if self._is_stopped:
                return
            if self._is_due(wish):
                self._note(wish, self._try(wish))

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
            except Exception:  # a wish is no job: this thread serves on
                log.exception("wishes_failed")

    def _stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _is_due(self, wish: Wish) -> bool:
        """Whether it is new, still waits, or its weights have left all the same."""
        key = str(wish.ref)
        with self._changed:
            report = self._reports.get(key)
        if report is None or report.number != wish.number:
            return False  # replaced meanwhile: the next look has the newer one
        if report.progress == Progress.DONE and wish.place is Place.LOADED:
            return key not in self._parts.slots.stats().resident
        return report.progress == Progress.UNDER_WAY

    def _note(self, wish: Wish, report: WishReport) -> None:
        with self._changed:
            if self._wishes.get(str(wish.ref)) == wish:
                self._reports[str(wish.ref)] = report

    def _try(self, wish: Wish) -> WishReport:
        key = str(wish.ref)
        if wish.place is Place.UNLOADED:
            is_out = self._let_go(key)
            return WishReport(wish.number, Progress.DONE if is_out else Progress.UNDER_WAY)
        try:
            self._bring_in(key, wish.ref)
        except TimeoutError:
            log.debug("waits_for_room", function=key)
            return WishReport(wish.number, Progress.UNDER_WAY)
        except (FuseboxError, FusionError, OSError, RuntimeError) as error:
            log.warning("not_loaded", function=key, reason=error)
            why = translate(error)
            detail = why.detail[:DETAIL_CHARS]
            return WishReport(wish.number, Progress.FAILED, why.code, detail)
        log.info("loaded", function=key)
        return WishReport(wish.number, Progress.DONE)

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
