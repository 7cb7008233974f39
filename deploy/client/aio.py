"""`AsyncClient`: one gateway, for programs with an event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from contract.errors import FuseboxError
from deploy.client import routes
from deploy.client.aio_mapping import given_calls_of, map_calls, raising
from deploy.client.answers import JSON, MSGPACK, Answer, Record
from deploy.client.bodies import NOTHING, Body, body_of
from deploy.client.events import Event, Following
from deploy.client.given import fresh_key, gateway_url, headers_of
from deploy.client.job import AsyncJob
from deploy.client.mapping import check_concurrency
from deploy.client.request import ANSWER_S, Lost, Reply, Request, function_path
from deploy.client.retries import Retries
from deploy.client.routes import NOBODY, Told
from deploy.client.talk import Heard, Pause, Send, Step, Steps, Talk

if TYPE_CHECKING:
    from deploy.client.bodies import Inputs
    from deploy.client.over_aiohttp import Transport

T = TypeVar("T")


class AsyncClient:
    """One gateway, for the tasks of one event loop. Use it in an `async with`.

    It is `Client` with `await`; see there.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retries: Retries = Retries(),  # noqa: B008  # frozen
    ) -> None:
        self.url = gateway_url(url)
        self.retries = retries
        self._headers = headers_of(api_key)
        self._talk = Talk(self.url, retries, random.random)
        self._opened: Transport | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def invoke(
        self,
        name: str,
        inputs: Inputs | None = None,
        *,
        payload: Any = NOTHING,
        content_type: str | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Call a function and wait for what it gives: see `Client.invoke`."""
        body = body_of(inputs, payload, content_type)
        key = idempotency_key or fresh_key(self.retries)
        request = routes.call(name, body, MSGPACK, None, key, priority)
        return Answer.of(await self._run(self._talk.settle(request, time.monotonic(), timeout_s)))

    async def submit(
        self,
        name: str,
        inputs: Inputs | None = None,
        *,
        payload: Any = NOTHING,
        content_type: str | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Call a function without waiting: the job as it was accepted, to be awaited."""
        body = body_of(inputs, payload, content_type)
        key = idempotency_key or fresh_key(self.retries)
        record = await self._ask(routes.call(name, body, JSON, 0.0, key, priority))
        return AsyncJob(self, record["job"])

    @overload
    def map(
        self,
        name: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs] | None = None,
        *,
        payloads: Iterable[Any] | AsyncIterable[Any] | None = None,
        concurrency: int = 8,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncIterator[Answer]: ...

    @overload
    def map(
        self,
        name: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs] | None = None,
        *,
        payloads: Iterable[Any] | AsyncIterable[Any] | None = None,
        concurrency: int = 8,
        ordered: bool = True,
        return_errors: bool,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncIterator[Answer | FuseboxError]: ...

    def map(
        self,
        name: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs] | None = None,
        *,
        payloads: Iterable[Any] | AsyncIterable[Any] | None = None,
        concurrency: int = 8,
        ordered: bool = True,
        return_errors: bool = False,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncIterator[Answer | FuseboxError]:
        """Call a function with each of many inputs: see `Client.map`.

        Whoever stops early has the calls under way cancelled; their jobs go on.
        """
        check_concurrency(concurrency)

        async def call(given: tuple[Inputs | None, Any]) -> Answer:
            one, payload = given
            return await self.invoke(
                name, one, payload=payload, timeout_s=timeout_s, priority=priority
            )

        found = map_calls(call, given_calls_of(inputs, payloads), concurrency, ordered)
        return found if return_errors else raising(found)

    async def result(self, job_id: str, timeout_s: float | None = None) -> Answer:
        """What a job gave once it has settled; raises the error that it ended with, WaitTimeout."""
        steps = self._talk.wait(job_id, MSGPACK, time.monotonic(), timeout_s)
        return Answer.of(await self._run(steps))

    def job(self, job_id: str) -> AsyncJob:
        """A job by its id; asks nothing."""
        return AsyncJob(self, job_id)

    async def call(
        self,
        name: str,
        body: Body,
        wait_s: float | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        sticky: str | None = None,
        told: Told = NOBODY,
    ) -> Record:
        """Call a function with a body as it is; the answer as JSON has it: see `Client.call`."""
        request = routes.call(name, body, JSON, wait_s, idempotency_key, priority, sticky, told)
        return await self._ask(request)

    async def record(self, job_id: str, wait_s: float | None = None) -> Record:
        """A job's record as it is, or as it is when it settles or `wait_s` have passed."""
        return await self._ask(routes.show_job(job_id, wait_s, JSON))

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Record:
        """A job's record once it has settled; raises WaitTimeout."""
        return await self._run(self._talk.wait(job_id, JSON, time.monotonic(), timeout_s))

    async def cancel(self, job_id: str) -> Record:
        """Cancel a job; raises JobSettled where it has a result."""
        return await self._ask(routes.cancel_job(job_id))

    async def events(self, job_id: str, last_id: str = "") -> AsyncIterator[Event]:
        """What happens to a job, as it happens, until it is done; from after the event `last_id`.

        A connection that ends is taken up where it ended.
        """
        following = Following(self._talk, job_id, time.monotonic(), last_id)
        while True:
            async with aclosing(self._transport.stream(following.request)) as parts:
                async for part in parts:
                    for event in following.take(part, time.monotonic()):
                        yield event
                    if following.is_done:
                        return
            await asyncio.sleep(following.pause_s(time.monotonic()))  # a gateway that restarts

    async def deploy(
        self,
        name: str,
        artifact: Path,
        digest: str,
        compute_ms: Mapping[int, float] = MappingProxyType({}),
    ) -> Record:
        """Upload an artifact, whose sha-256 is `digest` in hexadecimal; the new version."""
        return await self._ask(routes.deploy(name, artifact, digest, compute_ms))

    async def functions(self) -> list[Record]:
        """The latest version of every function."""
        found: list[Record] = (await self.request("GET", "/v1/functions"))["functions"]
        return found

    async def function(self, name: str) -> Record:
        """One function, `NAME` or `NAME@3`."""
        return await self.request("GET", function_path(name))

    async def remove(self, name: str) -> Record:
        """Take a function, or one version of it, out of service."""
        return await self._ask(routes.remove(name))

    async def logs(self, name: str, count: int = 100, since_s: float = 0.0) -> list[Record]:
        """What a function's own code printed and raised; `since_s` is Unix seconds."""
        found: list[Record] = (await self._ask(routes.logs(name, count, since_s)))["lines"]
        return found

    async def stats(self) -> Record:
        """Counters of all functions and of the platform."""
        return await self.request("GET", "/v1/stats")

    async def workers(self) -> list[Record]:
        """Every worker as it reports itself."""
        found: list[Record] = (await self.request("GET", "/v1/workers"))["workers"]
        return found

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        content_type: str = JSON,
        wait_s: float = ANSWER_S,
    ) -> Record:
        """Any route of docs/http.md that answers with a record; `json` is its body."""
        return await self._ask(routes.any_route(method, path, params, json, content_type, wait_s))

    @property
    def _transport(self) -> Transport:
        if self._opened is None:
            # late: it belongs to the loop that is running, and takes 100 ms to import
            from deploy.client.over_aiohttp import Transport

            self._opened = Transport(self.url, self._headers)
        return self._opened

    async def _ask(self, request: Request) -> Record:
        return (await self._run(self._talk.ask(request, time.monotonic()))).record

    async def _run(self, steps: Steps[T]) -> T:
        try:
            step: Step = next(steps)
            while True:
                step = steps.send(await self._take(step))
        except StopIteration as end:
            value: T = end.value
            return value

    async def _take(self, step: Step) -> Heard:
        answer: Reply | Lost | None = None
        match step:
            case Send(request):
                answer = await self._transport.send(request)
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return Heard(time.monotonic(), answer)
