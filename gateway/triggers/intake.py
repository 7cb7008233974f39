"""POST /v1/events: events become jobs of every trigger that they are for, all of them or none.

Two round trips to the store for a batch, one of which is the group commit, and one for counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contract.errors import (
    FuseboxError,
    InvalidInput,
    PayloadTooLarge,
    QueueFull,
    RequestError,
    StoreUnavailable,
    Unavailable,
    UnknownFunction,
)
from contract.log import Log
from contract.store.jobs import RETRY_AFTER_MS, AlreadyAccepted
from contract.store.triggers import Move, Room
from contract.trigger import Kind, Trigger
from gateway.answer import Answer, json_answer
from gateway.calls import Accepted, NotSubmitted, Result, submit_all
from gateway.context import Gateway
from gateway.triggers.attempts import error_record
from gateway.triggers.book import Book
from gateway.triggers.cloudevents import decode
from gateway.triggers.event import Event
from gateway.triggers.firing import call_of

log = Log("triggers")
# calls of one request: events times the triggers that each of them is for
MAX_CALLS = 4_000


class Pair(NamedTuple):
    """An event and a trigger that it is for."""

    event: Event
    trigger: Trigger


class Intake:
    """The event triggers as one gateway process knows them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._book = Book(gateway.store.triggers)

    def accept(self, environ: Mapping[str, Any], body: bytes) -> Answer:
        """Answer 202 when every event is a job of every trigger that it is for.

        Raises InvalidInput, MalformedBody, PayloadTooLarge, UnsupportedMediaType, QueueFull,
        WaitTooLong, Unavailable: then none of them was accepted, or what was is found again by
        its claims when the same events come once more.
        """
        events = decode(environ, body)
        room = self._look()
        found = [(event, self._book.index.find(event)) for event in events]
        pairs = [Pair(event, trigger) for event, triggers in found for trigger in triggers]
        self._check_room(pairs, room)
        max_bytes = self._gateway.settings.max_body_bytes
        calls = [call_of(trigger, event, max_bytes) for event, trigger in pairs]
        results = submit_all(self._gateway, calls, is_whole=True)
        unmatched = sum(not triggers for _, triggers in found)
        self._note(pairs, results, Counter(events=len(events), events_unmatched=unmatched))
        _raise_first(pairs, results)
        jobs = [_shown(pair, result) for pair, result in zip(pairs, results, strict=True)]
        return json_answer({"events": len(events), "unmatched": unmatched, "jobs": jobs}, 202)

    def _look(self) -> Room:
        """Read how much waits, and the definitions if they have changed."""
        triggers = self._gateway.store.triggers
        room = triggers.room(self._book.functions)
        if self._book.refresh(room.version):
            room = triggers.room(self._book.functions)
        return room

    def _check_room(self, pairs: Sequence[Pair], room: Room) -> None:
        """Refuse as a whole what cannot be accepted as a whole; the rule is that of `enqueue`."""
        settings, calls = self._gateway.settings, len(pairs)
        most = min(MAX_CALLS, settings.queue_limit)
        if calls > most:
            raise PayloadTooLarge(f"body: expected events that make at most {most} calls: {calls}")
        by_function = Counter(_name(trigger) for _, trigger in pairs)
        for name, own in by_function.items():
            most = min(settings.function_queue_limit, settings.queue_limit + 1 - calls)
            if own > most:
                expected = f"events that make at most {most} calls of {name}"
                raise PayloadTooLarge(f"body: expected {expected}: {own}")
        # no function may hold more of the queue than is left to the others
        left = settings.queue_limit + 1 - room.waiting - calls
        if calls and left < 1:
            raise QueueFull(retry_after_ms=RETRY_AFTER_MS[0])
        for name, own in by_function.items():
            if room.queued.get(name, 0) + own > min(settings.function_queue_limit, left):
                raise QueueFull(function=name, retry_after_ms=RETRY_AFTER_MS[0])

    def _note(self, pairs: Sequence[Pair], results: Sequence[Result], counts: Counter[str]) -> None:
        """Count, and note by trigger what became of its events; all of that may be lost."""
        tallies: dict[str, _Tally] = {}
        for pair, result in zip(pairs, results, strict=True):
            tallies.setdefault(pair.trigger.name, _Tally(pair.trigger)).add(result)
        for tally in tallies.values():
            counts += tally.counts
        try:
            moves = [tally.move(time.time()) for tally in tallies.values()]
            self._gateway.store.triggers.move(moves, counts)
        except StoreUnavailable as error:
            # the jobs are accepted, and the client is to hear that
            log.warning("events_not_counted", reason=error)


def _name(trigger: Trigger) -> str:
    """The trigger's function, without a version."""
    return trigger.function.partition("@")[0]


class _Tally:
    """What became of the events of one trigger."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self.counts: Counter[str] = Counter()
        self._fired = 0
        self._last = ""
        self._error: FuseboxError | None = None

    def add(self, result: Result) -> None:
        """Count one of them."""
        if isinstance(result, Accepted):
            self._fired += 1
            self._last = result.spec.id
            self.counts[f"trigger_calls:{Kind.EVENT}"] += 1
        elif isinstance(result, AlreadyAccepted):
            self._last = result.job
            self.counts[f"trigger_duplicates:{Kind.EVENT}"] += 1
        elif not isinstance(result, NotSubmitted):
            self._error = result
            self.counts[f"trigger_failures:{Kind.EVENT}"] += 1

    def move(self, now_s: float) -> Move:
        """What progress keeps of it."""
        fields: dict[str, Any] = {"error": error_record(self._error) if self._error else ""}
        if self._last:
            fields |= {"last_job": self._last, "last_at_s": repr(now_s)}
        return Move(self._trigger, self._fired, 0, fields)


def _raise_first(pairs: Sequence[Pair], results: Sequence[Result]) -> None:
    """Raise what kept the first of them from being accepted."""
    for pair, result in zip(pairs, results, strict=True):
        if not isinstance(result, Accepted | AlreadyAccepted | NotSubmitted):
            raise _named(pair, result) from result


def _named(pair: Pair, error: FuseboxError) -> FuseboxError:
    """The error with the event and the trigger that it is of."""
    event, trigger = pair
    about = {"trigger": trigger.name, "event": event.id[:200]}
    if isinstance(error, UnknownFunction):
        # the sender asked for no function, and may try again when it is deployed
        return Unavailable(f"The function {trigger.function} is not deployed.", **about)
    detail = f"trigger {trigger.name}: {error.detail}"
    if isinstance(error, RequestError) and not isinstance(error, PayloadTooLarge):
        return InvalidInput(detail, **error.extensions | about)
    return type(error)(detail, **error.extensions | about)


def _shown(pair: Pair, result: Result) -> dict[str, Any]:
    is_duplicate = isinstance(result, AlreadyAccepted)
    assert isinstance(result, Accepted | AlreadyAccepted)
    job = result.job if isinstance(result, AlreadyAccepted) else result.spec.id
    return {
        "event": pair.event.id,
        "source": pair.event.source,
        "trigger": pair.trigger.name,
        "job": job,
        "is_duplicate": is_duplicate,
    }
