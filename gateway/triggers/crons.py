"""The cron triggers under way: a heap by next tick, so that those that wait cost nothing."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from contract.store.link import Argument
from contract.store.triggers import Move
from contract.trigger import Progress, Trigger
from gateway.answer import rfc3339
from gateway.calls import Call, Result, submit_all
from gateway.context import Gateway
from gateway.triggers.attempts import Health, taken
from gateway.triggers.cron import Due, Schedule, due
from gateway.triggers.event import Event
from gateway.triggers.firing import call_of

EVENT_TYPE = "fusebox.cron"
# Calls that are made together; what else is due follows at once.
AT_ONCE = 512


@dataclass
class _Cron:
    trigger: Trigger
    schedule: Schedule
    # the last tick that was dealt with
    place_s: float
    next_s: float
    health: Health = field(default_factory=Health)

    @property
    def wake_at_s(self) -> float:
        return max(self.next_s, self.health.retry_at_s)


class Crons:
    """Fires what is due; no other process does so meanwhile."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[str, _Cron] = {}
        # (when, generation, name); those of definitions that are gone are passed over
        self._heap: list[tuple[float, str, str]] = []

    @property
    def next_s(self) -> float:
        """When to come again, Unix seconds; infinite where nothing is to come."""
        return self._heap[0][0] if self._heap else inf

    def set(self, triggers: Mapping[str, Trigger]) -> None:
        """These are the cron triggers now; those that stay keep their state."""
        for name in [name for name in self._known if name not in triggers]:
            del self._known[name]
        new = [each for name, each in triggers.items() if not self._has(each)]
        progress = self._gateway.store.triggers.progress([each.name for each in new])
        now_s = time.time()
        for trigger in new:
            self._add(trigger, progress[trigger.name], now_s)

    def fire(self, now_s: float) -> None:
        """Make the calls that are due; raises StoreUnavailable, after which they still are."""
        while ready := self._take(now_s):
            self._fire(ready, now_s)

    def _has(self, trigger: Trigger) -> bool:
        known = self._known.get(trigger.name)
        # one that fails is read again: it may have been told to try at once
        return known is not None and known.trigger == trigger and not known.health.failures

    def _add(self, trigger: Trigger, progress: Progress, now_s: float) -> None:
        options = trigger.options
        schedule = Schedule(options["schedule"], options["timezone"])
        place_s = progress.at_s or trigger.created_at_s
        health = Health(progress.failures, progress.retry_at_s)
        cron = _Cron(trigger, schedule, place_s, schedule.after(place_s), health)
        self._known[trigger.name] = cron
        self._push(cron)

    def _push(self, cron: _Cron) -> None:
        heapq.heappush(self._heap, (cron.wake_at_s, cron.trigger.generation, cron.trigger.name))

    def _take(self, now_s: float) -> list[tuple[_Cron, Due]]:
        """Those that are due, with their ticks; they leave the heap."""
        found: list[tuple[_Cron, Due]] = []
        calls = 0
        while self._heap and self._heap[0][0] <= now_s and calls < AT_ONCE:
            at_s, generation, name = heapq.heappop(self._heap)
            cron = self._known.get(name)
            # of a definition that is gone, or an entry that another has replaced
            if cron is None or cron.trigger.generation != generation or cron.wake_at_s != at_s:
                continue
            asked = due(cron.schedule, cron.place_s, now_s, cron.trigger.options["missed"])
            found.append((cron, asked))
            calls += len(asked.ticks)
        return found

    def _fire(self, ready: Sequence[tuple[_Cron, Due]], now_s: float) -> None:
        calls = [self._call(cron.trigger, tick) for cron, asked in ready for tick in asked.ticks]
        moves: list[Move] = []
        counts: Counter[str] = Counter()
        try:
            results = submit_all(self._gateway, calls)
            at = 0
            for cron, asked in ready:
                row = results[at : at + len(asked.ticks)]
                at += len(asked.ticks)
                move, counted = _settle(cron, asked, row, now_s)
                moves.append(move)
                counts += counted
            self._gateway.store.triggers.move(moves, counts)
        finally:
            # whatever happened, they come again: at their next tick, or to be tried once more
            for cron, _ in ready:
                self._push(cron)

    def _call(self, trigger: Trigger, tick_s: float) -> Call:
        return call_of(trigger, tick_event(trigger, tick_s), self._gateway.settings.max_body_bytes)


def tick_event(trigger: Trigger, tick_s: float) -> Event:
    """A tick as an event: its id is the moment."""
    at = rfc3339(tick_s)
    source = f"/v1/triggers/{trigger.name}"
    value = trigger.options["data"]
    return Event(at, source, EVENT_TYPE, value=value, more={"time": at})


def _settle(
    cron: _Cron, asked: Due, results: Sequence[Result], now_s: float
) -> tuple[Move, Counter[str]]:
    """Move a trigger behind the ticks that were taken."""
    row = taken(cron.trigger, results)
    if row.error is None:
        # also behind those that were passed over
        cron.place_s, cron.next_s = max(cron.place_s, now_s), asked.next_s
        row = row._replace(skipped=row.skipped + asked.is_gap)
    elif row.jobs:
        cron.place_s = asked.ticks[len(row.jobs) - 1]
        cron.next_s = asked.ticks[len(row.jobs)]
    place: dict[str, Argument] = {"at_s": repr(cron.place_s)}
    return cron.health.after(cron.trigger, row, now_s, place)
