"""The watch triggers under way: folders are looked at in a few threads, each folder in one."""

from __future__ import annotations

import heapq
import mimetypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from threading import Lock
from typing import NamedTuple

from contract.errors import FuseboxError, StoreUnavailable
from contract.store.link import Argument
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


class _Step(NamedTuple):
    """What became of some files, and what is known of all after them."""

    row: Taken
    # name -> signature; "" for files that are gone
    files: dict[str, str]


class Watches:
    """Looks into folders; no other process does so meanwhile. For several threads."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = Lock()
        self._known: dict[str, _Watch] = {}
        # (when, name) on the monotonic clock: a watch that is being looked at is not in it
        self._heap: list[tuple[float, str, str]] = []
        # those that are being looked at; one that was read again meanwhile waits for the look
        self._busy: set[str] = set()

    def set(self, triggers: Mapping[str, Trigger]) -> None:
        """These are the watch triggers now; those that stay keep their state."""
        with self._lock:
            for name, watch in list(self._known.items()):
                # one that fails is read again: it may have been told to try at once
                if triggers.get(name) != watch.trigger or watch.health.failures:
                    del self._known[name]
            new = [name for name in triggers if name not in self._known]
        progress = self._gateway.store.triggers.progress(new)
        with self._lock:
            for name in new:
                known: Progress = progress[name]
                health = Health(known.failures, known.retry_at_s)
                watch = _Watch(triggers[name], health, is_begun=known.at_s > 0)
                self._known[name] = watch
                self._push(watch, time.monotonic())

    @property
    def next_in_s(self) -> float:
        """In how many seconds a folder is to be looked at; infinite where none is."""
        with self._lock:
            return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else inf

    def turn(self) -> bool:
        """Look into the folder that is due first, if one is; raises StoreUnavailable."""
        watch = self._take()
        if watch is None:
            return False
        try:
            self._look(watch)
        finally:
            with self._lock:
                self._busy.discard(watch.trigger.name)
            wait_s = max(watch.trigger.options["every_s"], watch.health.retry_at_s - time.time())
            with self._lock:
                self._push(watch, time.monotonic() + wait_s)
        return True

    def _take(self) -> _Watch | None:
        now_s = time.monotonic()
        with self._lock:
            while self._heap and self._heap[0][0] <= now_s:
                _, generation, name = heapq.heappop(self._heap)
                if name in self._busy:
                    heapq.heappush(self._heap, (now_s + AGAIN_S, generation, name))
                    continue
                watch = self._known.get(name)
                if watch is not None and watch.trigger.generation == generation:
                    self._busy.add(name)
                    return watch
        return None

    def _push(self, watch: _Watch, at_s: float) -> None:
        # one that was replaced meanwhile has an entry of its own
        if self._known.get(watch.trigger.name) is watch:
            trigger = watch.trigger
            heapq.heappush(self._heap, (at_s, trigger.generation, trigger.name))

    def _look(self, watch: _Watch) -> None:
        trigger, options = watch.trigger, watch.trigger.options
        if watch.done is None:
            watch.done = self._gateway.store.triggers.files(trigger.name)
        now_s = time.time()
        try:
            # the setting, or a link on the way, may be another one by now
            url = check_place(options["url"], self._gateway.settings.watched)
            files = list_files(url, options["pattern"])
            if not watch.is_begun:
                self._begin(watch, files, now_s)
            seen = look(watch.done, watch.waiting, files, time.monotonic(), options["settle_s"])
            watch.waiting = seen.waiting
            self._take_all(watch, seen.ready, dict.fromkeys(seen.gone, ""))
        except StoreUnavailable:
            raise
        except FuseboxError as error:
            self._note(watch, _Step(Taken((), error=error), {}))

    def _begin(self, watch: _Watch, files: Sequence[Found], now_s: float) -> None:
        """Note what was there before the trigger, once."""
        is_passed = watch.trigger.options["existing"] == "skip"
        before = existing(files, watch.trigger.created_at_s) if is_passed else {}
        self._note(watch, _Step(Taken(()), before), {"at_s": repr(now_s)})
        watch.is_begun = True

    def _take_all(self, watch: _Watch, ready: Sequence[Found], gone: dict[str, str]) -> None:
        """Make calls of files in order, until one of them stops the trigger."""
        left = list(ready)
        if not left and (gone or watch.health.failures):
            self._note(watch, _Step(Taken(()), gone))
        while left:
            step, count = self._take_some(watch, left)
            self._note(watch, step._replace(files=step.files | gone))
            if step.row.error is not None:
                return
            left, gone = left[count:], {}

    def _take_some(self, watch: _Watch, left: Sequence[Found]) -> tuple[_Step, int]:
        max_bytes = self._gateway.settings.max_body_bytes
        calls: list[Call] = []
        names: list[Found] = []
        size = count = 0
        error: FuseboxError | None = None
        for file in left[:AT_ONCE]:
            if calls and size + file.size > BYTES_AT_ONCE:
                break
            size += file.size
            count += 1
            try:
                data = read_file(watch.trigger.options["url"], file, max_bytes)
            except FuseboxError as raised:
                error = raised
                break
            if data is not None:
                event = file_event(watch.trigger, file, data)
                calls.append(call_of(watch.trigger, event, max_bytes))
                names.append(file)
        is_ordered = not watch.trigger.skips_bad
        results = submit_all(self._gateway, calls, is_ordered=is_ordered)
        row = taken(watch.trigger, [*results, *([error] if error else [])])
        through = [*names, left[count - 1]][: len(row.jobs)] if error else names[: len(row.jobs)]
        return _Step(row, {file.name: file.signature for file in through}), count

    def _note(
        self, watch: _Watch, step: _Step, place: Mapping[str, Argument] | None = None
    ) -> None:
        assert watch.done is not None
        move, counts = watch.health.after(watch.trigger, step.row, time.time(), dict(place or {}))
        self._gateway.store.triggers.move([replace(move, files=step.files)], counts)
        for name, signature in step.files.items():
            if signature:
                watch.done[name] = signature
                watch.waiting.pop(name, None)
            else:
                watch.done.pop(name, None)


def file_event(trigger: Trigger, file: Found, data: bytes) -> Event:
    """A file as an event: name and signature are its id, so that one that changes is another."""
    content_type = mimetypes.guess_type(file.name)[0] or RAW
    more = {"subject": file.name, "time": rfc3339(max(0.0, file.modified_s))}
    identity = (f"{file.name} {file.signature}", trigger.options["url"], EVENT_TYPE)
    return Event(*identity, content_type, body=data, more=more)
