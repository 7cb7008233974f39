"""One fault under load: from the strike to the proof that nothing was lost."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import requests

from contract.job import SETTLED
from tests.e2e.faults.load import Load, first_of
from tests.e2e.faults.waiting import eventually

# The promise is 15 s on a machine of its own; tests may share a slow one.
RECOVERY_S = 45.0
ANSWER_S = 10.0
RECORDS = "FUSEBOX_RELIABILITY"


@dataclass(frozen=True)
class Record:
    """What a trial showed; a line of the file that FUSEBOX_RELIABILITY names."""

    fault: str
    injected: int
    accepted: int
    lost: int
    settled_twice: int
    recovery_s: float
    # calls that were told to come again, and connections that broke under their callers
    refused: int
    broken: int


class Jobs(NamedTuple):
    """Where all jobs of the platform are, as it says itself."""

    accepted: int
    open: int
    settled: int
    drift: int


class Trial:
    """A load, a fault, and the accounts afterwards."""

    def __init__(self, url: str, fault: str) -> None:
        self._url = url
        self._fault = fault
        self.load = Load(url)
        self._session = requests.Session()
        self._strikes = 0
        self._struck_at_s = 0.0
        self._before: list[str] = []

    def strike(self) -> None:
        """To be called when the fault has just happened: recovery is measured from here."""
        self._struck_at_s = time.monotonic()
        self._strikes += 1
        self._before = list(self.load.accepted)

    def job(self, job_id: str, wait_s: float = 0.0) -> dict[str, Any]:
        """The job's record."""
        answer = self._get(f"/v1/jobs/{job_id}?wait={wait_s:g}", wait_s)
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record

    def job_when_it_answers(self, job_id: str) -> dict[str, Any]:
        """The job's record once it has settled, asked for again while the store is away."""

        def settled() -> dict[str, Any] | None:
            try:
                answer = self._get(f"/v1/jobs/{job_id}?wait=5")
            except requests.ConnectionError:
                return None
            assert answer.status_code in (200, 503), answer.text
            record: dict[str, Any] = answer.json()
            return record if record["status"] in SETTLED else None

        return eventually(settled, f"job {job_id} to settle")

    def counters(self) -> dict[str, int]:
        """The platform's counters."""
        found: dict[str, int] = self._stats()["counters"]
        return found

    def wait_until_answering(self) -> None:
        """Wait until every client of the load is answered, as before a fault."""
        now_s = time.monotonic()
        eventually(lambda: self.load.is_answered_since(now_s), "answers before the fault")

    def recover(self) -> float:
        """Seconds from the last strike until all is as before.

        That is: every client is answered again, and every job accepted before has its outcome.
        """
        eventually(
            lambda: self.load.is_answered_since(self._struck_at_s),
            f"answers after: {self._fault}",
            RECOVERY_S,
        )
        for job in self._before:
            left_s = RECOVERY_S - (time.monotonic() - self._struck_at_s)
            assert left_s > 0, f"jobs wait {RECOVERY_S} s after: {self._fault}"
            if self.job(job, left_s)["status"] not in SETTLED:
                raise AssertionError(f"{job} has no outcome {RECOVERY_S} s after: {self._fault}")
        return time.monotonic() - self._struck_at_s

    def account(self, recovery_s: float) -> Record:
        """Stop the load, let all work end, and compare every promise with its outcome."""
        self.load.stop()
        jobs = eventually(self._idle_jobs, "every accepted job to settle")
        accepted = dict(self.load.accepted)
        found = {job: self._outcome(job) for job in accepted}
        missing = [job for job, record in found.items() if "status" not in record]
        changed = [
            job
            for job, call in accepted.items()
            if call.told is not None and not _is_same(call.told, found[job])
        ]
        record = Record(
            self._fault,
            self._strikes,
            len(accepted),
            len(missing) + max(0, jobs.drift),
            len(changed) + max(0, -jobs.drift),
            round(recovery_s, 2),
            self.load.refused,
            self.load.broken,
        )
        _write(record)
        self._assert_kept(record, found, jobs)
        return record

    def _assert_kept(
        self, record: Record, found: Mapping[str, Mapping[str, Any]], jobs: Jobs
    ) -> None:
        assert (record.lost, record.settled_twice) == (0, 0), record
        assert jobs.accepted == jobs.settled, jobs
        assert self.load.surprises == []
        statuses = Counter(job["status"] for job in found.values())
        assert statuses == {"succeeded": record.accepted}, [
            job for job in found.values() if job["status"] != "succeeded"
        ][:3]
        wrong = [
            job
            for job, call in self.load.accepted.items()
            if first_of(found[job]) != 2.0 * call.number
        ]
        assert wrong == [], "answers that belong to somebody else"
        metrics = self._get("/metrics").text
        assert "\nfusebox_job_conservation_drift 0.0\n" in metrics

    def _outcome(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/v1/jobs/{job_id}").json()
        return found

    def _idle_jobs(self) -> Jobs | None:
        jobs = dict(self._stats()["jobs"])
        accepted, drift = jobs.pop("accepted"), jobs.pop("drift")
        waiting = jobs.pop("queued") + jobs.pop("running")
        return Jobs(accepted, waiting, sum(jobs.values()), drift) if waiting == 0 else None

    def _stats(self) -> dict[str, Any]:
        answer = self._get("/v1/stats")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _get(self, path: str, wait_s: float = 0.0) -> requests.Response:
        return self._session.get(self._url + path, timeout=wait_s + ANSWER_S)

    def close(self) -> None:
        """Stop the load and hang up."""
        self.load.stop()
        self._session.close()


@contextmanager
def run_trial(url: str, fault: str) -> Iterator[Trial]:
    """Load while the body strikes; on leaving, recovery and the accounts."""
    trial = Trial(url, fault)
    trial.load.start()
    try:
        trial.wait_until_answering()
        yield trial
        trial.account(trial.recover())
    finally:
        trial.close()


def _is_same(told: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether the record still holds the outcome that the caller was given."""
    return all(told[key] == found.get(key) for key in ("outputs", "timings_ms"))


def _write(record: Record) -> None:
    name = os.environ.get(RECORDS)
    if name:
        with Path(name).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")
