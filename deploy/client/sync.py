"""`Client`: one gateway, for programs with threads and for the command line."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from contract.errors import FuseboxError
from deploy.client import routes
from deploy.client.admin import Admin
from deploy.client.answers import JSON, MSGPACK, Answer, Record
from deploy.client.bodies import NOTHING, Body, body_of, given_calls
from deploy.client.given import fresh_key, gateway_url, headers_of
from deploy.client.job import Job
from deploy.client.request import ANSWER_S, Lost, Reply, Request, function_path
from deploy.client.retries import Retries
from deploy.client.routes import NOBODY, Told
from deploy.client.talk import Heard, Pause, Send, Step, Steps, Talk

if TYPE_CHECKING:
    from deploy.client.bodies import Inputs
    from deploy.client.events import Event

T = TypeVar("T")


class Client:
    """One gateway, for any number of threads. Close it, or use it in a `with`.

    Without `url` it is that of FUSEBOX_URL, without `api_key` that of FUSEBOX_API_KEY. Every
    method raises the error of `contract.errors` that the platform answers with, and Unreachable
    where nothing answers, once `retries` are used up.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retries: Retries = Retries(),  # noqa: B008  # frozen
    ) -> None:
        from deploy.client.over_urllib3 import Transport  # takes 30 ms

        self.url = gateway_url(url)
        self.retries = retries
        self._talk = Talk(self.url, retries, random.random)
        self._transport = Transport(self.url, headers_of(api_key))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def invoke(
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
        """Call a function and wait for what it gives.

        `inputs` of tensors, or the `payload` that the function's `preprocess` takes. Raises the
        error that the job ended with, with its `job_id`, and WaitTimeout after `timeout_s`; the job
        goes on. Sent again, it is still one job: each call has an idempotency key.
        """
        body = body_of(inputs, payload, content_type)
        key = idempotency_key or fresh_key(self.retries)
        request = routes.call(name, body, MSGPACK, None, key, priority)
        return Answer.of(self._run(self._talk.settle(request, time.monotonic(), timeout_s)))

    def submit(
        self,
        name: str,
        inputs: Inputs | None = None,
        *,
        payload: Any = NOTHING,
        content_type: str | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Call a function without waiting: the job as it was accepted. See `invoke`."""
        body = body_of(inputs, payload, content_type)
        key = idempotency_key or fresh_key(self.retries)
        record = self._ask(routes.call(name, body, JSON, 0.0, key, priority))
        return Job(self, record["job"])

    @overload
    def map(
        self,
        name: str,
        inputs: Iterable[Inputs] | None = None,
        *,
        payloads: Iterable[Any] | None = None,
        concurrency: int = 8,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> Iterator[Answer]: ...

    @overload
    def map(
        self,
        name: str,
        inputs: Iterable[Inputs] | None = None,
        *,
        payloads: Iterable[Any] | None = None,
        concurrency: int = 8,
        ordered: bool = True,
        return_errors: bool,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> Iterator[Answer | FuseboxError]: ...

    def map(
        self,
        name: str,
        inputs: Iterable[Inputs] | None = None,
        *,
        payloads: Iterable[Any] | None = None,
        concurrency: int = 8,
        ordered: bool = True,
        return_errors: bool = False,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> Iterator[Answer | FuseboxError]:
        """Call a function with each of `inputs`, or of `payloads`, `concurrency` at once.

        Answers come in the order of the items, or as they come; an item is taken when its turn
        comes, at most `concurrency` ahead of the answers that were taken. The first error is raised
        in its place and no further call begun; with `return_errors` it stands in its place, and
        the others go on.
        """
        from deploy.client.mapping import check_concurrency, map_calls, raising

        check_concurrency(concurrency)

        def call(given: tuple[Inputs | None, Any]) -> Answer:
            one, payload = given
            return self.invoke(name, one, payload=payload, timeout_s=timeout_s, priority=priority)

        found = map_calls(call, given_calls(inputs, payloads), concurrency, ordered)
        return found if return_errors else raising(found)

    def result(self, job_id: str, timeout_s: float | None = None) -> Answer:
        """What a job gave once it has settled; raises the error that it ended with, WaitTimeout."""
        return Answer.of(self._run(self._talk.wait(job_id, MSGPACK, time.monotonic(), timeout_s)))

    def job(self, job_id: str) -> Job:
        """A job by its id; asks nothing."""
        return Job(self, job_id)

    def call(
        self,
        name: str,
        body: Body,
        wait_s: float | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        sticky: str | None = None,
        told: Told = NOBODY,
    ) -> Record:
        """Call a function with a body as it is; the answer as JSON has it.

        It is a job without result where there is none within `wait_s`, with 0 at once. With an
        idempotency key, which must be new for every call that is meant to be another one, a call
        whose connection fails is sent again: the platform runs it once.
        """
        request = routes.call(name, body, JSON, wait_s, idempotency_key, priority, sticky, told)
        return self._ask(request)

    def record(self, job_id: str, wait_s: float | None = None) -> Record:
        """A job's record as it is, or as it is when it settles or `wait_s` have passed."""
        return self._ask(routes.show_job(job_id, wait_s, JSON))

    def wait(self, job_id: str, timeout_s: float | None = None) -> Record:
        """A job's record once it has settled; raises WaitTimeout."""
        return self._run(self._talk.wait(job_id, JSON, time.monotonic(), timeout_s))

    def cancel(self, job_id: str) -> Record:
        """Cancel a job; raises JobSettled where it has a result."""
        return self._ask(routes.cancel_job(job_id))

    def events(self, job_id: str, last_id: str = "") -> Iterator[Event]:
        """What happens to a job, as it happens, until it is done; from after the event `last_id`.

        A connection that ends is taken up where it ended.
        """
        from deploy.client.events import Following

        following = Following(self._talk, job_id, time.monotonic(), last_id)
        while True:
            with closing(self._transport.stream(following.request)) as parts:
                for part in parts:
                    yield from following.take(part, time.monotonic())
                    if following.is_done:
                        return
            time.sleep(following.pause_s(time.monotonic()))  # a gateway that restarts

    def deploy(
        self,
        name: str,
        artifact: Path,
        digest: str,
        compute_ms: Mapping[int, float] = MappingProxyType({}),
    ) -> Record:
        """Upload an artifact, whose sha-256 is `digest` in hexadecimal; the new version.

        `compute_ms` is what a run took here, by rows.
        """
        return self._ask(routes.deploy(name, artifact, digest, compute_ms))

    def functions(self) -> list[Record]:
        """The latest version of every function."""
        found: list[Record] = self.request("GET", "/v1/functions")["functions"]
        return found

    def function(self, name: str) -> Record:
        """One function, `NAME` or `NAME@3`."""
        return self.request("GET", function_path(name))

    def remove(self, name: str) -> Record:
        """Take a function, or one version of it, out of service."""
        return self._ask(routes.remove(name))

    def logs(self, name: str, count: int = 100, since_s: float = 0.0) -> list[Record]:
        """What a function's own code printed and raised; `since_s` is Unix seconds."""
        found: list[Record] = self._ask(routes.logs(name, count, since_s))["lines"]
        return found

    def graph(self, name: str) -> Record:
        """A function's operators, and the content hashes of its weights by name."""
        return self.request("GET", f"{function_path(name)}/graph")

    def stats(self) -> Record:
        """Counters of all functions and of the platform."""
        return self.request("GET", "/v1/stats")

    def workers(self) -> list[Record]:
        """Every worker as it reports itself."""
        found: list[Record] = self.request("GET", "/v1/workers")["workers"]
        return found

    def groups(self, count: int = 100) -> list[Record]:
        """The groups that ended last, the newest first."""
        params = {"count": str(count)}
        found: list[Record] = self.request("GET", "/v1/groups", params=params)["groups"]
        return found

    @property
    def admin(self) -> Admin:
        """What those do who run the platform."""
        return Admin(self.request)

    def request(
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
        return self._ask(routes.any_route(method, path, params, json, content_type, wait_s))

    def _ask(self, request: Request) -> Record:
        return self._run(self._talk.ask(request, time.monotonic())).record

    def _run(self, steps: Steps[T]) -> T:
        try:
            step: Step = next(steps)
            while True:
                step = steps.send(self._take(step))
        except StopIteration as end:
            value: T = end.value
            return value

    def _take(self, step: Step) -> Heard:
        answer: Reply | Lost | None = None
        match step:
            case Send(request):
                answer = self._transport.send(request)
            case Pause(seconds):
                time.sleep(seconds)  # what the platform asks for, or a gateway needs to restart
        return Heard(time.monotonic(), answer)
