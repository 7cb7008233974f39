"""The stream triggers under way: entries become jobs, and are acknowledged when those have settled.

The consumer group of a stream is its place. What was read and not acknowledged is read again by
whoever leads next; its jobs are found by their claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from contract.errors import StoreUnavailable, Unavailable
from contract.store.triggers import Entry
from contract.trigger import Progress, Trigger
from gateway.answer import JSON, rfc3339
from gateway.calls import submit_all
from gateway.context import Gateway
from gateway.triggers.attempts import Health, Taken, taken
from gateway.triggers.event import Event
from gateway.triggers.firing import call_of

EVENT_TYPE = "fusebox.stream"
# An entry with the first field is that field; the other one has its type, by default JSON.
DATA, TYPE = b"data", b"content_type"


@dataclass
class _Stream:
    trigger: Trigger
    health: Health
    # read, and not yet jobs
    unsent: list[Entry] = field(default_factory=list)
    # entry -> its job, until that has settled
    outstanding: dict[str, str] = field(default_factory=dict)


class Streams:
    """Reads the streams of triggers; no other process does so meanwhile."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._triggers = gateway.store.triggers
        self._known: dict[str, _Stream] = {}

    def set(self, triggers: Mapping[str, Trigger]) -> None:
        """These are the stream triggers now; those that stay keep their state."""
        for name, stream in list(self._known.items()):
            # one that fails is read again: it may have been told to try at once
            if triggers.get(name) != stream.trigger or stream.health.failures:
                del self._known[name]
        new = [name for name in triggers if name not in self._known]
        progress = self._triggers.progress(new)
        for name in new:
            known: Progress = progress[name]
            health = Health(known.failures, known.retry_at_s)
            self._known[name] = _Stream(triggers[name], health)

    @property
    def has_any(self) -> bool:
        """Whether there is a stream to look at."""
        return bool(self._known)

    def turn(self, now_s: float) -> bool:
        """Look at every stream once; whether one of them had something."""
        turns = [self._turn(stream, now_s) for stream in list(self._known.values())]
        return any(turns)

    def _turn(self, stream: _Stream, now_s: float) -> bool:
        has_settled = self._acknowledge(stream)
        if now_s < stream.health.retry_at_s:
            return has_settled
        try:
            if not stream.unsent:
                self._read(stream)
        except StoreUnavailable:
            raise
        except Unavailable as error:
            self._note(stream, Taken((), error=error), now_s)
        if not stream.unsent:
            return has_settled
        self._send(stream, now_s)
        return True

    def _note(self, stream: _Stream, row: Taken, now_s: float) -> None:
        move, counts = stream.health.after(stream.trigger, row, now_s, {})
        self._triggers.move([move], counts)

    def _read(self, stream: _Stream) -> None:
        """Fill up to the batch: first with what was read before, by whoever led then."""
        batch = stream.trigger.options["batch"]
        if not stream.outstanding:
            stream.unsent = self._triggers.read(stream.trigger, batch, is_again=True)
        room = batch - len(stream.outstanding) - len(stream.unsent)
        if not stream.unsent and room > 0:
            stream.unsent = self._triggers.read(stream.trigger, room)

    def _send(self, stream: _Stream, now_s: float) -> None:
        # an entry that was deleted after it was read has nothing to send
        gone = [entry.id for entry in stream.unsent if not entry.fields]
        self._triggers.acknowledge(stream.trigger, gone)
        entries = [entry for entry in stream.unsent if entry.fields]
        max_bytes = self._gateway.settings.max_body_bytes
        calls = [
            call_of(stream.trigger, entry_event(stream.trigger, entry), max_bytes)
            for entry in entries
        ]
        rows = [] if stream.trigger.skips_bad else [stream.trigger.name] * len(calls)
        results = submit_all(self._gateway, calls, rows=rows)
        row = taken(stream.trigger, results)
        through = dict(zip([entry.id for entry in entries], row.jobs, strict=False))
        stream.outstanding |= {entry: job for entry, job in through.items() if job}
        # passed over
        self._triggers.acknowledge(stream.trigger, [e for e, job in through.items() if not job])
        stream.unsent = entries[len(row.jobs) :]
        self._note(stream, row, now_s)

    def _acknowledge(self, stream: _Stream) -> bool:
        """Acknowledge the entries whose jobs have settled; whether there were any."""
        if not stream.outstanding:
            return False
        statuses = self._triggers.statuses(list(stream.outstanding.values()))
        settled = [
            entry
            for entry, status in zip(stream.outstanding, statuses, strict=True)
            if status is None or status.is_settled
        ]
        self._triggers.acknowledge(stream.trigger, settled)
        for entry in settled:
            del stream.outstanding[entry]
        return bool(settled)


def entry_event(trigger: Trigger, entry: Entry) -> Event:
    """An entry as an event: its field `data`, or all of its fields as an object of texts."""
    at_ms = int(entry.id.partition("-")[0])
    identity = (entry.id, f"redis:{trigger.options['key']}", EVENT_TYPE)
    more = {"time": rfc3339(min(at_ms / 1000, 253_402_300_799))}
    if DATA in entry.fields:
        content_type = entry.fields.get(TYPE, JSON.encode()).decode(errors="replace")
        return Event(*identity, content_type, body=entry.fields[DATA], more=more)
    fields = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in entry.fields.items()
    }
    return Event(*identity, JSON, body=orjson.dumps(fields), more=more)
