"""The service that tells of ended jobs; exactly one process runs it at a time.

Deliveries wait in the store, in lanes: one for each host of webhooks, one for functions, one for
streams. Those of one lane share a bound, so that a receiver that is slow holds up its own alone. A
delivery leaves its lane when it is over; whatever was under way in a process that died is tried
again by the next.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from contract.delivery import Delivery, State
from contract.destinations import Destination, Kind, parse
from contract.errors import FuseboxError, StoreUnavailable
from contract.job import Job
from contract.log import Log
from contract.store.deliveries import Due, StreamRefused
from gateway import doors as doors  # what they add to the formats
from gateway.context import Gateway
from gateway.delivery.chain import call_function
from gateway.delivery.formats import End, encoded, event_of, format_of, trace_of
from gateway.delivery.reaching import Resolve, Resolver
from gateway.delivery.retry import Attempt, Policy, is_retryable, next_try_s
from gateway.delivery.signing import valid_secrets
from gateway.delivery.telling import bounds_of, tell

if TYPE_CHECKING:
    from gateway.delivery.webhooks import Webhooks

log = Log("delivery")
Result = TypeVar("Result")
# deliveries under way
AT_ONCE = 256
PER_LANE = 8
# lanes looked at in one round
LANES = 256
# Without news, lanes are looked at this often.
TICK_S = 1.0
STORE_RETRY_S = 0.5
THREADS = 8
# Deliveries under way may end by themselves for so long.
DRAIN_S = 3.0
MAX_ERROR_CHARS = 300


def run(gateway: Gateway, stop: Event) -> None:
    """Tell of ended jobs until `stop`."""
    resolver = Resolver()
    try:
        asyncio.run(Service(gateway, stop, resolver).serve())
    finally:
        resolver.close()


class Service:
    """Deliveries of one process. All of it but the outbox runs in one event loop."""

    def __init__(self, gateway: Gateway, stop: Event, resolve: Resolve) -> None:
        self._gateway = gateway
        self._store = gateway.store
        self._stop = stop
        self._resolve = resolve
        settings = gateway.settings
        self._policy = Policy(settings.delivery_attempts, settings.delivery_backoff_s)
        self._bounds = bounds_of(settings)
        self._under_way: dict[Due, asyncio.Task[None]] = {}
        self._of_lane: Counter[str] = Counter()

    async def serve(self) -> None:
        """Work until `stop`; raises what the outbox's thread dies of."""
        # aiohttp takes 200 ms to import, and gateways import what this module offers doors
        from gateway.delivery.webhooks import Webhooks

        self._wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS + 1, "delivery")
        outbox = loop.run_in_executor(
            self._threads, tell, self._store, self._gateway.settings, self._stop,
            lambda: loop.call_soon_threadsafe(self._wake.set),
        )  # fmt: skip
        outbox.add_done_callback(lambda _: self._wake.set())
        self._webhooks: Webhooks = Webhooks(
            self._gateway.settings, self._valid_secrets, self._resolve
        )
        try:
            while not self._stop.is_set() and not outbox.done():
                await self._sleep(await self._begin_due())
            await outbox
        finally:
            await self._drain()
            await self._webhooks.close()
            self._threads.shutdown(wait=False)

    async def _call(self, function: Callable[..., Result], *args: object) -> Result:
        """Ask the store, or make a call, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _begin_due(self) -> float:
        """Begin what is due and has room; seconds until something else may be due."""
        now_s = time.time()
        try:
            for lane in await self._call(self._store.deliveries.lanes, now_s, LANES):
                await self._begin_lane(lane, now_s)
            next_s = await self._call(self._store.deliveries.next_due_s, now_s)
        except StoreUnavailable as error:
            log.warning("deliveries_unread", reason=error)
            return STORE_RETRY_S
        return TICK_S if next_s is None else min(TICK_S, max(0.0, next_s - time.time()))

    async def _begin_lane(self, lane: str, now_s: float) -> None:
        room = min(PER_LANE - self._of_lane[lane], AT_ONCE - len(self._under_way))
        if room <= 0:
            return
        # those under way are among the first, and are at most PER_LANE
        found = await self._call(self._store.deliveries.due, lane, now_s, 2 * PER_LANE)
        for due in [due for due in found if due not in self._under_way][:room]:
            self._of_lane[lane] += 1
            task = asyncio.create_task(self._deliver(due))
            self._under_way[due] = task
            task.add_done_callback(partial(self._ended, due))

    def _ended(self, due: Due, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._release(due)
            return
        # it is still in its lane, and is begun again when the store may have come back
        log.warning("delivery_not_noted", job=due.job, reason=task.exception())
        asyncio.get_running_loop().call_later(STORE_RETRY_S, self._release, due)

    def _release(self, due: Due) -> None:
        del self._under_way[due]
        self._of_lane[due.lane] -= 1
        if not self._of_lane[due.lane]:
            del self._of_lane[due.lane]
        self._wake.set()

    async def _drain(self) -> None:
        """Let what is under way end for a moment; the rest is tried again by whoever comes next."""
        tasks = list(self._under_way.values())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=DRAIN_S)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _deliver(self, due: Due) -> None:
        """One attempt, and its line in the log."""
        job, delivery = await self._call(self._store.deliveries.get, due)
        if job is None or delivery is None or job.outcome is None:
            gone = Delivery("", State.GIVEN_UP, time.time(), error="its record is gone")
            await self._call(
                self._store.deliveries.note, due, gone, "record_gone", self._bounds, time.time()
            )
            return
        try:
            destination = parse(delivery.destination)
            if destination.kind is Kind.STREAM:
                await self._write(due, delivery, destination, job)
                return
            attempt = await self._attempt(destination, job, delivery.created_at_s)
        except StoreUnavailable:
            raise
        except FuseboxError as error:
            attempt = Attempt(error=error.detail, is_lasting=True)
        except Exception:  # one that nobody foresaw must not hold up the others
            log.exception("delivery_failed", job=job.spec.id, lane=due.lane)
            attempt = Attempt(error="an internal error; the log has it")
        await self._note(due, delivery, attempt)

    async def _attempt(self, destination: Destination, job: Job, ended_at_s: float) -> Attempt:
        if destination.kind is Kind.FUNCTION:
            end = End(job, ended_at_s)
            return await self._call(call_function, self._gateway, destination, end)
        chosen = format_of(destination.format)
        payload = b""
        if chosen.needs_payload:
            payload = await self._call(self._store.deliveries.payload, job.spec.id)
        # large outputs take long to write as JSON
        message = await self._call(chosen.make, End(job, ended_at_s, payload))
        return await self._webhooks.send(destination, message, job.spec.id, trace_of(job.origin))

    async def _write(
        self, due: Due, delivery: Delivery, destination: Destination, job: Job
    ) -> None:
        """Write to a stream, which is the same move as its line in the log."""
        end = End(job, delivery.created_at_s)
        body = await self._call(lambda: encoded(event_of(end)))
        done = noted(delivery, Attempt(), None, time.time())
        try:
            await self._call(
                self._store.deliveries.note, due, done, "", self._bounds, time.time(),
                destination.target, body,
            )  # fmt: skip
        except StreamRefused:
            attempt = Attempt(error=f"{destination.target} is no stream", is_lasting=True)
            await self._note(due, delivery, attempt)

    async def _note(self, due: Due, delivery: Delivery, attempt: Attempt) -> None:
        now_s = time.time()
        if attempt.is_put_off:
            later = replace(delivery, next_at_s=now_s + (attempt.retry_after_s or 0.0))
            await self._call(self._store.deliveries.note, due, later, "", self._bounds, now_s)
            return
        next_s = None
        if attempt.error:
            next_s = next_try_s(
                self._policy, delivery.attempts + 1, attempt, now_s, random.random()
            )
        new = noted(delivery, attempt, next_s, now_s)
        reason = reason_of(attempt) if new.state is State.GIVEN_UP else ""
        await self._call(self._store.deliveries.note, due, new, reason, self._bounds, now_s)
        if reason:
            log.warning(
                # no URL: receivers are known to put secrets into them
                "delivery_given_up", job=due.job, number=due.number, lane=due.lane,
                attempts=new.attempts, reason=new.error,
            )  # fmt: skip

    async def _valid_secrets(self) -> list[str]:
        # each time: what is sent after a rotation must be signed by the new one
        return await self._call(valid_secrets, self._gateway.settings, self._store, time.time())


def noted(delivery: Delivery, attempt: Attempt, next_s: float | None, now_s: float) -> Delivery:
    """The delivery after an attempt."""
    failed = State.GIVEN_UP if next_s is None else State.WAITING
    return replace(
        delivery,
        state=failed if attempt.error else State.DELIVERED,
        next_at_s=next_s or 0.0,
        attempts=delivery.attempts + 1,
        at_s=now_s,
        status=attempt.status,
        error=attempt.error[:MAX_ERROR_CHARS],
        job=attempt.job,
    )


def reason_of(attempt: Attempt) -> str:
    """Why a delivery is given up, in a word."""
    if is_retryable(attempt):
        return "attempts_exhausted"
    return f"http_{attempt.status}" if attempt.status else "refused"
