"""The watch triggers under way: folders are looked at in a few threads, each folder in one.

Triggers of one folder look at it together, and what they make of its files is submitted in one
move: calls of one file wait at the same moment, and may run in one group.
"""

from __future__ import annotations

import heapq
import mimetypes
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from threading import Lock
from typing import NamedTuple

from contract.errors import FuseboxError, StoreUnavailable
from contract.store.link import Argument
from contract.store.triggers import Move
from contract.trigger import Progress, Trigger
from gateway.answer import rfc3339
from gateway.calls import Call, submit_all
from gateway.context import Gateway
from gateway.triggers.attempts import Health, Taken, taken
from gateway.triggers.event import RAW, Event
from gateway.triggers.firing import call_of
from gateway.triggers.places import check_place, list_files, read_file
from gateway.triggers.watching import Found, Waiting, existing, look

EVENT_TYPE = "fusebox.file"
# Files that are dealt with in one move: at most so many, and so many bytes unless one has more.
AT_ONCE = 64
BYTES_AT_ONCE = 16 * 2**20
# A folder that is still being looked at is asked for again after this.
AGAIN_S = 0.05


@dataclass
class _Watch:
    trigger: Trigger
    health: Health
    # signatures of the files that were dealt with; None until they have been read
    done: dict[str, str] | None = None
    waiting: dict[str, Waiting] = field(default_factory=dict)
    # whether what was there already has been noted
    is_begun: bool = False
    # of the next look, on the monotonic clock; infinite while it is looked at
    due_s: float = inf

    @property
    def url(self) -> str:
        """The folder."""
        url: str = self.trigger.options["url"]
        return url


_Left = tuple[_Watch, Sequence[Found]]


@dataclass
class _Batch:
    """Files of one trigger that are to become calls in one move."""

    calls: list[Call] = field(default_factory=list)
    # of the calls, and then of the error
    files: list[Found] = field(default_factory=list)
    # why the file behind them could not be read; at most one
    errors: list[FuseboxError] = field(default_factory=list)
    # files that were looked at; some are gone
    looked_at: int = 0


class _Step(NamedTuple):
    """What became of some files, and what is known of all after them."""

    row: Taken
    # name -> signature
    files: dict[str, str]


class Watches:
    """Looks into folders; no other process does so meanwhile. For several threads."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = Lock()
        self._known: dict[str, _Watch] = {}
        # names by folder
        self._of_folder: defaultdict[str, set[str]] = defaultdict(set)
        # (when, name) on the monotonic clock; entries that are not of `due_s` any more mean nothing
        self._heap: list[tuple[float, str]] = []
        # those that are being looked at; one that was read again meanwhile waits for the look
        self._busy: set[str] = set()

    def set(self, triggers: Mapping[str, Trigger]) -> None:
        """These are the watch triggers now; those that stay keep their state."""
        with self._lock:
            for name, watch in list(self._known.items()):
                # one that fails is read again: it may have been told to try at once
                if triggers.get(name) != watch.trigger or watch.health.failures:
                    del self._known[name]
                    self._of_folder[watch.url].discard(name)
                    if not self._of_folder[watch.url]:
                        del self._of_folder[watch.url]
            new = [name for name in triggers if name not in self._known]
        progress = self._gateway.store.triggers.progress(new)
        with self._lock:
            for name in new:
                known: Progress = progress[name]
                health = Health(known.failures, known.retry_at_s)
                watch = _Watch(triggers[name], health, is_begun=known.at_s > 0)
                self._known[name] = watch
                self._of_folder[watch.url].add(name)
                self._push(watch, time.monotonic())

    @property
    def next_in_s(self) -> float:
        """In how many seconds a folder is to be looked at; infinite where none is."""
        with self._lock:
            return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else inf

    def turn(self) -> bool:
        """Look into the folder that is due first, if one is; raises StoreUnavailable."""
        watches = self._take()
        try:
            if watches:
                self._look(watches)
        finally:
            now_s, at_s = time.monotonic(), time.time()
            with self._lock:
                for watch in watches:
                    self._busy.discard(watch.trigger.name)
                    wait_s = max(watch.trigger.options["every_s"], watch.health.retry_at_s - at_s)
                    self._push(watch, now_s + wait_s)
        return bool(watches)

    def _take(self) -> list[_Watch]:
        """The watch that is due first, and all others of its folder."""
        at_s = time.time()
        with self._lock:
            first = self._pop_due(time.monotonic())
            if first is None:
                return []
            of_folder = [
                self._known[name] for name in sorted(self._of_folder[first.url] - self._busy)
            ]
            watches = [
                first,
                *(w for w in of_folder if w.due_s < inf and w.health.retry_at_s <= at_s),
            ]
            for watch in watches:
                self._busy.add(watch.trigger.name)
                watch.due_s = inf
            return watches

    def _pop_due(self, now_s: float) -> _Watch | None:
        while self._heap and self._heap[0][0] <= now_s:
            due_s, name = heapq.heappop(self._heap)
            watch = self._known.get(name)
            # one that was looked at meanwhile, or replaced, has another entry
            if watch is None or watch.due_s != due_s:
                continue
            if name in self._busy:
                self._push(watch, now_s + AGAIN_S)
                continue
            watch.due_s = inf
            return watch
        return None

    def _push(self, watch: _Watch, at_s: float) -> None:
        # one that was replaced meanwhile has an entry of its own
        if self._known.get(watch.trigger.name) is watch:
            watch.due_s = at_s
            heapq.heappush(self._heap, (at_s, watch.trigger.name))

    def _look(self, watches: Sequence[_Watch]) -> None:
        left: list[_Left] = []
        listed: dict[str, list[Found]] = {}
        for watch in watches:
            try:
                ready = self._ready(watch, listed)
            except StoreUnavailable:
                raise
            except FuseboxError as error:
                self._note(watch, _Step(Taken((), error=error), {}))
            else:
                if ready:
                    left.append((watch, ready))
        while left:
            left = self._take_some(left)

    def _ready(self, watch: _Watch, listed: dict[str, list[Found]]) -> list[Found]:
        """New and finished files; those that are gone are forgotten. `listed`: by pattern."""
        trigger, options = watch.trigger, watch.trigger.options
        if watch.done is None:
            watch.done = self._gateway.store.triggers.files(trigger.name)
        now_s = time.time()
        # the setting, or a link on the way, may be another one by now
        url = check_place(watch.url, self._gateway.settings.watched)
        pattern = options["pattern"]
        if pattern not in listed:
            listed[pattern] = list_files(url, pattern)
        files = listed[pattern]
        if not watch.is_begun:
            self._begin(watch, files, now_s)
        seen = look(watch.done, watch.waiting, files, time.monotonic(), options["settle_s"])
        watch.waiting = seen.waiting
        if seen.gone:
            self._forget(watch, seen.gone)
        if not seen.ready and watch.health.failures:
            # the folder can be read, and nothing in it is at fault
            self._note(watch, _Step(Taken(()), {}))
        return list(seen.ready)

    def _forget(self, watch: _Watch, gone: Sequence[str]) -> None:
        assert watch.done is not None
        move = Move(watch.trigger, files=dict.fromkeys(gone, ""))
        self._gateway.store.triggers.move([move], {})
        for name in gone:
            watch.done.pop(name, None)

    def _begin(self, watch: _Watch, files: Sequence[Found], now_s: float) -> None:
        """Note what was there before the trigger, once."""
        is_passed = watch.trigger.options["existing"] == "skip"
        before = existing(files, watch.trigger.created_at_s) if is_passed else {}
        self._note(watch, _Step(Taken(()), before), {"at_s": repr(now_s)})
        watch.is_begun = True

    def _take_some(self, left: Sequence[_Left]) -> list[_Left]:
        """Make calls of the next files of each trigger, in one move; what is left then.

        A trigger stops at a file that does not become a call, until it is to try again.
        """
        read: dict[Found, bytes | None] = {}
        most_bytes = BYTES_AT_ONCE // len(left)
        batches = [self._batch(watch, files, most_bytes, read) for watch, files in left]
        calls = [call for batch in batches for call in batch.calls]
        rows = [
            "" if watch.trigger.skips_bad else watch.trigger.name
            for (watch, _), batch in zip(left, batches, strict=True)
            for _ in batch.calls
        ]
        results = iter(submit_all(self._gateway, calls, rows=rows))
        after: list[_Left] = []
        for (watch, files), batch in zip(left, batches, strict=True):
            own = [*islice(results, len(batch.calls)), *batch.errors]
            row = taken(watch.trigger, own)
            through = batch.files[: len(row.jobs)]
            self._note(watch, _Step(row, {file.name: file.signature for file in through}))
            if row.error is None and batch.looked_at < len(files):
                after.append((watch, files[batch.looked_at :]))
        return after

    def _batch(
        self,
        watch: _Watch,
        files: Sequence[Found],
        most_bytes: int,
        read: dict[Found, bytes | None],
    ) -> _Batch:
        """Read the next files; `read` has those that another trigger has read already."""
        max_bytes = self._gateway.settings.max_body_bytes
        batch = _Batch()
        size = 0
        for file in files[:AT_ONCE]:
            if batch.files and size + file.size > most_bytes:
                break
            size += file.size
            batch.looked_at += 1
            try:
                if file not in read:
                    read[file] = read_file(watch.url, file, max_bytes)
            except FuseboxError as error:
                batch.files.append(file)
                batch.errors.append(error)
                break
            data = read[file]
            if data is not None:
                event = file_event(watch.trigger, file, data)
                batch.calls.append(call_of(watch.trigger, event, max_bytes))
                batch.files.append(file)
        return batch

    def _note(
        self, watch: _Watch, step: _Step, place: Mapping[str, Argument] | None = None
    ) -> None:
        assert watch.done is not None
        move, counts = watch.health.after(watch.trigger, step.row, time.time(), dict(place or {}))
        self._gateway.store.triggers.move([replace(move, files=step.files)], counts)
        watch.done |= step.files
        for name in step.files:
            watch.waiting.pop(name, None)


def file_event(trigger: Trigger, file: Found, data: bytes) -> Event:
    """A file as an event: name and signature are its id, so that one that changes is another."""
    content_type = mimetypes.guess_type(file.name)[0] or RAW
    more = {"subject": file.name, "time": rfc3339(max(0.0, file.modified_s))}
    identity = (f"{file.name} {file.signature}", trigger.options["url"], EVENT_TYPE)
    return Event(*identity, content_type, body=data, more=more)
