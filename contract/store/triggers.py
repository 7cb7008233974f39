"""Triggers as the store keeps them: definitions, places, and the streams that some of them read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from contract import keys
from contract.errors import InvalidInput, TriggerExists, Unavailable, UnknownTrigger
from contract.job import Status
from contract.store.link import Argument, Command
from contract.store.server import Server, store_errors
from contract.trigger import Kind, Progress, Trigger

# of one platform
MAX_TRIGGERS = 20_000
# what one command brings back
AT_ONCE = 1_000
# the one consumer of a trigger's group: the process that leads
CONSUMER = "events"


class Known(NamedTuple):
    """A trigger and how far it has come."""

    trigger: Trigger
    progress: Progress


class States(NamedTuple):
    """Triggers by state; one that is paused does not count as failing."""

    active: int = 0
    paused: int = 0
    failing: int = 0


class Room(NamedTuple):
    """What a batch of events is looked at with, read in one round trip."""

    # of the definitions: another one means that they have changed
    version: int
    # jobs that wait, of all functions and by function
    waiting: int
    queued: dict[str, int]


@dataclass(frozen=True)
class Move:
    """What becomes of one trigger; `fields` and `files` with the value "" are removed."""

    trigger: Trigger
    fired: int = 0
    skipped: int = 0
    fields: Mapping[str, Argument] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class Entry(NamedTuple):
    """An entry of a stream."""

    id: str
    fields: dict[bytes, bytes]


class Triggers:
    """The triggers of the store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def put(self, trigger: Trigger) -> None:
        """Keep a new trigger; raises TriggerExists, InvalidInput."""
        stream, first = "", "$"
        if trigger.kind is Kind.STREAM:
            stream = trigger.options["key"]
            first = "0" if trigger.options["from"] == "start" else "$"
        at_s = repr(trigger.created_at_s) if trigger.kind is Kind.CRON else ""
        args: list[Argument] = [trigger.name, trigger.encode(), MAX_TRIGGERS, at_s, stream]
        reply = self._server.run("trigger_put", [*args, trigger.group, first]).decode()
        if reply == "!exists":
            raise TriggerExists(trigger=trigger.name)
        if reply == "!full":
            raise TriggerExists(f"There are {MAX_TRIGGERS} triggers already, which is the most.")
        if reply == "!type":
            raise InvalidInput.of("stream.key", "a stream, or nothing yet", f"another {stream!r}")

    def get(self, name: str) -> Known:
        """One trigger; raises UnknownTrigger."""
        record, fields = self._server.call_all(
            [("HGET", keys.TRIGGERS, name), ("HGETALL", keys.trigger(name))]
        )
        if record is None:
            raise UnknownTrigger(trigger=name)
        return Known(Trigger.decode(record), Progress.decode(fields))

    def page(self, after: str, count: int) -> tuple[list[Known], str]:
        """Triggers by name, from behind `after`; and the last name if there are more, else ""."""
        [names] = self._server.call_all([("HKEYS", keys.TRIGGERS)])
        behind = sorted(name for key in names if (name := key.decode()) > after)
        chosen = behind[:count]
        if not chosen:
            return [], ""
        [records] = self._server.call_all([("HMGET", keys.TRIGGERS, *chosen)])
        progress = self.progress(chosen)
        # one that was removed meanwhile has no record
        found = [
            Known(Trigger.decode(record), progress[name])
            for name, record in zip(chosen, records, strict=True)
            if record is not None
        ]
        return found, chosen[-1] if len(behind) > count else ""

    def definitions(self, known: Mapping[str, tuple[bytes, Trigger]] | None = None) -> Definitions:
        """Every definition as it stands now; those that `known` has are not decoded again."""
        [records] = self._server.call_all([("HGETALL", keys.TRIGGERS)])
        found = Definitions()
        for key, record in records.items():
            name = key.decode()
            before = (known or {}).get(name)
            is_same = before is not None and before[0] == record
            found.raw[name] = (record, before[1] if is_same and before else Trigger.decode(record))
        return found

    def progress(self, names: Sequence[str]) -> dict[str, Progress]:
        """How far these triggers have come."""
        found: dict[str, Progress] = {}
        for start in range(0, len(names), AT_ONCE):
            part = names[start : start + AT_ONCE]
            hashes = self._server.call_all([("HGETALL", keys.trigger(name)) for name in part])
            found |= {n: Progress.decode(h) for n, h in zip(part, hashes, strict=True)}
        return found

    def states(self) -> States:
        """How many triggers are in which state, at one moment."""
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=True)
            pipe.hlen(keys.TRIGGERS)
            pipe.scard(keys.TRIGGERS_PAUSED)
            pipe.scard(keys.TRIGGERS_FAILING)
            pipe.sintercard(2, [keys.TRIGGERS_PAUSED, keys.TRIGGERS_FAILING])
            every, paused, with_error, both = map(int, pipe.execute())
        failing = with_error - both
        return States(every - paused - failing, paused, failing)

    def version(self) -> int:
        """Another number after every change of a definition."""
        [version] = self._server.call_all([("GET", keys.TRIGGERS_VERSION)])
        return int(version or 0)

    def room(self, functions: Sequence[str]) -> Room:
        """The version, and how many jobs wait, of all and of these functions."""
        commands: list[Command] = [("GET", keys.TRIGGERS_VERSION), ("XLEN", keys.PENDING)]
        if functions:
            commands.append(("HMGET", keys.QUEUED, *functions))
        version, waiting, *rest = self._server.call_all(commands)
        counts = rest[0] if rest else []
        queued = {name: int(count or 0) for name, count in zip(functions, counts, strict=True)}
        return Room(int(version or 0), int(waiting), queued)

    def pause(self, trigger: Trigger, is_paused: bool, now_s: float) -> Trigger:
        """Pause or resume it; raises UnknownTrigger. Ticks of a pause are never made up for."""
        at_s = repr(now_s) if trigger.kind is Kind.CRON else ""
        record = self._server.run("trigger_pause", [trigger.name, "p" if is_paused else "a", at_s])
        return self._decode(trigger.name, record)

    def remove(self, trigger: Trigger) -> Trigger:
        """Remove it; raises UnknownTrigger."""
        stream = trigger.options["key"] if trigger.kind is Kind.STREAM else ""
        record = self._server.run("trigger_remove", [trigger.name, stream, trigger.group])
        return self._decode(trigger.name, record)

    def move(self, moves: Sequence[Move], counters: Mapping[str, int]) -> list[bool]:
        """Move triggers on in one move; per trigger whether its definition still stands."""
        counted = [(name, amount) for name, amount in counters.items() if amount]
        args: list[Argument] = [len(counted)]
        args += [word for pair in counted for word in pair]
        for move in moves:
            args += [move.trigger.name, move.trigger.generation, move.fired, move.skipped]
            for pairs in (move.fields, move.files):
                args.append(len(pairs))
                args += [word for pair in pairs.items() for word in pair]
        return [bool(reply) for reply in self._server.run("trigger_move", args)]

    def files(self, name: str) -> dict[str, str]:
        """The files that a watch has dealt with: name -> signature."""
        [found] = self._server.call_all([("HGETALL", f"{keys.trigger(name)}:files")])
        return {file.decode(): signature.decode() for file, signature in found.items()}

    def read(self, trigger: Trigger, count: int, is_again: bool = False) -> list[Entry]:
        """New entries of a trigger's stream; `is_again`: those read before and not acknowledged."""
        key = trigger.options["key"]
        command = ("XREADGROUP", "GROUP", trigger.group, CONSUMER, "COUNT", count)
        try:
            found = self._call(*command, "STREAMS", key, "0" if is_again else ">")
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                # it holds something else by now
                raise Unavailable(f"stream {key}: {error}") from error
            # somebody deleted the stream: whatever comes under its name is new
            self._call("XGROUP", "CREATE", key, trigger.group, "0", "MKSTREAM")
            return []
        entries = (found or {}).get(key.encode(), [])
        # an entry that was deleted meanwhile has no fields
        return [Entry(id_.decode(), _pairs(flat)) for id_, flat in entries]

    def acknowledge(self, trigger: Trigger, entries: Sequence[str]) -> None:
        """These entries are done with."""
        if entries:
            self._call("XACK", trigger.options["key"], trigger.group, *entries)

    def statuses(self, jobs: Sequence[str]) -> list[Status | None]:
        """Where these jobs are; None for one whose record is gone."""
        found = self._server.call_all([("HGET", keys.job(job), "status") for job in jobs])
        return [None if text is None else Status(text.decode()) for text in found]

    def _call(self, *command: Argument) -> Any:
        [reply] = self._server.call_all([command])
        return reply

    def _decode(self, name: str, record: bytes | None) -> Trigger:
        if record is None:
            raise UnknownTrigger(trigger=name)
        return Trigger.decode(record)


class Definitions:
    """Definitions by name, beside what they were decoded from."""

    def __init__(self) -> None:
        self.raw: dict[str, tuple[bytes, Trigger]] = {}

    def values(self) -> list[Trigger]:
        """The triggers."""
        return [trigger for _, trigger in self.raw.values()]


def _pairs(flat: Sequence[bytes] | None) -> dict[bytes, bytes]:
    """Fields of an entry; of a name that is there twice the last."""
    flat = flat or ()
    return dict(zip(flat[::2], flat[1::2], strict=True))
