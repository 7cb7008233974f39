"""Conversations with a gateway as generators: what is to be sent, and what follows from answers.

They do no I/O and read no clock. A shell takes each step and tells what came of it, and when:
`deploy.client.sync` with threads, `deploy.client.aio` with tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, TypeVar

from contract.errors import FuseboxError
from deploy.client.answers import JSON, Record, fault_of, is_settled, read_record
from deploy.client.request import Lost, Reply, Request
from deploy.client.retries import Retries
from deploy.client.routes import show_job
from deploy.errors import WaitTimeout

# Shorter than the time after which proxies drop a silent connection.
LONG_POLL_S = 30.0
# A gateway that is stopped, or has too many who wait, answers a long poll at once: so it is not
# asked again at once. Pauses double up to the last of these.
FIRST_PAUSE_S, MOST_PAUSE_S = 0.05, 1.0
# A long poll was one when it took so much of the time that it was given.
POLLED = 0.5

T = TypeVar("T")


class Send(NamedTuple):
    """Send this, and tell what came."""

    request: Request


class Pause(NamedTuple):
    """Wait so long."""

    seconds: float


class Heard(NamedTuple):
    """What came of a step, and when; nothing comes of a pause."""

    at_s: float
    answer: Reply | Lost | None = None


class Told(NamedTuple):
    """A record and when it came."""

    at_s: float
    record: Record


Step = Send | Pause
Steps = Generator[Step, Heard, T]


@dataclass(frozen=True, slots=True)
class Talk:
    """How one client talks: with whom, and how often it says the same; `draw` is from 0 to 1.

    Every conversation raises the FuseboxError that it ends in. Times are those of one clock.
    """

    url: str
    retries: Retries
    draw: Callable[[], float]

    def ask(self, request: Request, now_s: float, give_up_at_s: float | None = None) -> Steps[Told]:
        """Send a request until it is answered, or as often as is good for it."""
        began_s = now_s
        for attempt in count(1):
            left_s = None if give_up_at_s is None else max(0.0, give_up_at_s - now_s)
            heard = yield Send(request.within(left_s))
            assert heard.answer is not None
            now_s = heard.at_s
            fault = fault_of(heard.answer, self.url)
            if fault is None:
                assert isinstance(heard.answer, Reply)
                return Told(now_s, read_record(heard.answer, self.url))
            if not fault.is_passing or not (fault.is_void or request.is_repeatable):
                raise fault.error
            pause_s = self.pause_s(attempt, now_s - began_s, fault.error, fault.after_s)
            if give_up_at_s is not None and now_s + pause_s > give_up_at_s:
                raise fault.error
            now_s = (yield Pause(pause_s)).at_s
        raise AssertionError("unreachable: attempts are counted without end")

    def pause_s(
        self, attempt: int, elapsed_s: float, error: FuseboxError, after_s: float | None = None
    ) -> float:
        """Seconds until the next attempt; raises the error where there is to be none."""
        pause_s = self.retries.pause_s(attempt, elapsed_s, self.draw(), after_s)
        if pause_s is None:
            raise error
        return pause_s

    def settle(
        self, request: Request, now_s: float, timeout_s: float | None = None
    ) -> Steps[Record]:
        """Call, and wait for the job where the answer is that it goes on; raises WaitTimeout."""
        give_up_at_s = None if timeout_s is None else now_s + timeout_s
        told = yield from self.ask(request, now_s, give_up_at_s)
        if is_settled(told.record):
            return told.record
        accept = request.headers.get("Accept", JSON)
        return (yield from self._poll(told.record["job"], accept, told.at_s, give_up_at_s))

    def wait(
        self, job_id: str, accept: str, now_s: float, timeout_s: float | None = None
    ) -> Steps[Record]:
        """Ask for a job until it has settled; raises WaitTimeout."""
        give_up_at_s = None if timeout_s is None else now_s + timeout_s
        return (yield from self._poll(job_id, accept, now_s, give_up_at_s))

    def _poll(
        self, job_id: str, accept: str, now_s: float, give_up_at_s: float | None
    ) -> Steps[Record]:
        pause_s = FIRST_PAUSE_S
        while True:
            left_s = LONG_POLL_S if give_up_at_s is None else max(0.0, give_up_at_s - now_s)
            wait_s = min(LONG_POLL_S, left_s)
            request = show_job(job_id, wait_s, accept)
            asked_at_s = now_s
            now_s, record = yield from self.ask(request, now_s, give_up_at_s)
            if is_settled(record):
                return record
            if give_up_at_s is not None and now_s >= give_up_at_s:
                raise WaitTimeout(f"job {job_id} is still {record['status']}", job_id=job_id)
            if now_s - asked_at_s >= POLLED * wait_s:
                pause_s = FIRST_PAUSE_S
                continue
            if give_up_at_s is not None:
                pause_s = min(pause_s, give_up_at_s - now_s)
            now_s = (yield Pause(pause_s)).at_s
            pause_s = min(MOST_PAUSE_S, 2 * pause_s)
