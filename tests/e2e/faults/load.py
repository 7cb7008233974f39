"""Load from several clients, each of which remembers what was accepted from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import requests

CLIENTS = 4
PACE_S = 0.05
ANSWER_S = 60.0
_numbers = count(1)
# what a client is told that has to come again: too much at once, not now
COME_AGAIN = (429, 503)


def first_of(record: Mapping[str, Any]) -> float:
    """The number in a job's result, whichever function it called; -1 where it has none."""
    if "outputs" in record:
        values = record["outputs"]["output"]
        while isinstance(values, list):
            values = values[0]
        return float(values)
    return float((record.get("result") or {}).get("doubled", -1.0))


@dataclass
class Accepted:
    """A job that a client was told has been accepted."""

    number: int
    # what the client was told of its end, where it waited for it
    told: Mapping[str, Any] | None = None


@dataclass
class Load:
    """Clients that call `plain`, every second call without waiting; thread-safe."""

    url: str
    accepted: dict[str, Accepted] = field(default_factory=dict)
    # answers that no client should get
    surprises: list[str] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    # per client: when it began the last of its calls that was answered
    answered_from_s: list[float] = field(default_factory=lambda: [0.0] * CLIENTS)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start the clients."""
        for client in range(CLIENTS):
            thread = threading.Thread(target=self._client, args=(client,), name=f"client-{client}")
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let every client finish its call."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def number(self) -> int:
        """A number that no other call has, of this load or another."""
        return next(_numbers)

    def submit(self, name: str, number: int, body: Mapping[str, Any]) -> str:
        """Have one job accepted, from the thread of the test; its id."""
        with requests.Session() as session:
            answer = self._post(session, name, body, {"Prefer": "respond-async"})
        assert answer.status_code == 202, answer.text
        self.accepted[answer.headers["Fusebox-Job"]] = Accepted(number)
        return answer.headers["Fusebox-Job"]

    def is_answered_since(self, moment_s: float) -> bool:
        """Whether every client has an answer to a call that it began after the moment."""
        return min(self.answered_from_s) > moment_s

    def _client(self, client: int) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                self._call(session, client)
                self._stop.wait(PACE_S)

    def _call(self, session: requests.Session, client: int) -> None:
        number = self.number()
        headers = {"Prefer": "respond-async"} if number % 2 else {}
        began_s = time.monotonic()
        try:
            answer = self._post(session, "plain", {"inputs": {"x": [[number]]}}, headers)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            self.broken += 1
            return
        self._note(answer, number)
        if answer.status_code == 200:
            self.answered_from_s[client] = began_s

    def _note(self, answer: requests.Response, number: int) -> None:
        status, job = answer.status_code, answer.headers.get("Fusebox-Job")
        if job is not None:
            self.accepted[job] = Accepted(number, answer.json() if status == 200 else None)
        if status in COME_AGAIN:
            self.refused += 1
            if "Retry-After" not in answer.headers:
                self.surprises.append(f"{status} without Retry-After")
        elif status not in (200, 202):
            self.surprises.append(f"{status}: {answer.text}")

    def _post(
        self,
        session: requests.Session,
        name: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> requests.Response:
        url = f"{self.url}/v1/functions/{name}/invoke"
        return session.post(url, json=body, headers=dict(headers), timeout=ANSWER_S)
