"""Dead letters: jobs that failed for good while nobody waited, deliveries that were given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from contract import keys
from contract.delivery import Delivery
from contract.errors import UnknownLetter
from contract.job import Job
from contract.store.deliveries import Due, job_of
from contract.store.link import Argument
from contract.store.server import Server

# removed in one move, so that it never stalls others for long
AT_ONCE = 500
_HEAD = ("spec", "status", "attempts", "outcome", "origin")
_NOTES = ("l:at", "l:reason", "l:number")


class Letter(NamedTuple):
    """A dead letter."""

    # that of the job; followed by `-NUMBER` where it is one of its deliveries
    id: str
    at_s: float
    # why there is no more hope
    reason: str
    job: Job
    # the job's input; None where it was not asked for, or was too large to be kept
    payload: bytes | None
    payload_bytes: int
    # what was given up; None where it is the job
    delivery: Delivery | None
    number: int


class DeadLetters:
    """The dead letters of the store."""

    def __init__(self, server: Server, result_ttl_s: float) -> None:
        self._server = server
        self._ttl_s = int(result_ttl_s)

    def last(self, count: int, before_s: float | None = None) -> list[Letter]:
        """The newest, and of those the newest first, without their payloads."""
        high = "+inf" if before_s is None else f"({before_s}"
        [ids] = self._server.call_all(
            [("ZREVRANGEBYSCORE", keys.DEAD_LETTERS, high, "-inf", "LIMIT", 0, count)]
        )
        return [letter for letter in self._read([i.decode() for i in ids], False) if letter]

    def get(self, letter_id: str) -> Letter:
        """One with its payload; raises UnknownLetter."""
        [letter] = self._read([letter_id], True)
        if letter is None:
            raise UnknownLetter(letter=letter_id)
        return letter

    def count(self) -> int:
        """How many there are."""
        [count] = self._server.call_all([("ZCARD", keys.DEAD_LETTERS)])
        return int(count)

    def purge(self, letter_ids: Sequence[str]) -> int:
        """Remove these, AT_ONCE at most; how many there were."""
        return int(self._server.run("purge", ["", AT_ONCE, *letter_ids[:AT_ONCE]]))

    def purge_until(self, until_s: float) -> int:
        """Remove all that are not newer; how many there were."""
        total = 0
        while removed := int(self._server.run("purge", [until_s, AT_ONCE])):
            total += removed
        return total

    def redeliver(self, letter: Letter, fresh: Delivery, lane: str, now_s: float) -> None:
        """Have a delivery tried anew, and remove its letter; raises UnknownLetter."""
        due = Due(lane, letter.job.spec.id, letter.number)
        args: list[Argument] = [
            now_s, letter.id, due.job, due.number, lane, fresh.encode(), self._ttl_s,
        ]  # fmt: skip
        if not self._server.run("redeliver", args):
            raise UnknownLetter(letter=letter.id)

    def _read(self, ids: Sequence[str], with_payload: bool) -> list[Letter | None]:
        commands = []
        for letter_id in ids:
            number = letter_id.partition("-")[2]
            fields = (*_HEAD, *_NOTES, f"d:{number}", *(("payload",) if with_payload else ()))
            commands.append(("HMGET", keys.letter(letter_id), *fields))
            commands.append(("HSTRLEN", keys.letter(letter_id), "payload"))
        found = self._server.call_all(commands) if commands else []
        return [
            _letter(letter_id, fields, int(size))
            for letter_id, fields, size in zip(ids, found[::2], found[1::2], strict=True)
        ]


def _letter(letter_id: str, fields: Sequence[Any], payload_bytes: int) -> Letter | None:
    head, (at, reason, number), rest = fields[:5], fields[5:8], fields[8:]
    if head[0] is None or at is None:
        return None
    delivery, payload = rest[0], rest[1] if len(rest) > 1 else None
    return Letter(
        letter_id,
        float(at),
        reason.decode(),
        job_of(head),
        payload,
        payload_bytes,
        None if delivery is None else Delivery.decode(delivery),
        int(number or 0),
    )
