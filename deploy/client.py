"""The platform over HTTP, as the command line and scripts use it."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import requests

from contract.errors import FuseboxError, InvalidInput, MalformedBody, decode_error
from contract.probe import HEADER, format_probe
from deploy.errors import Unreachable, WaitTimeout
from deploy.options import API_KEY_VARIABLE, DEFAULT_URL

Record = dict[str, Any]  # an answer of the API: docs/http.md says what is in it

CONNECT_S = 5.0
ANSWER_S = 30.0
# The gateway ends a long poll by itself; a deployment or an invocation may take long to begin one.
PATIENCE_S = 600.0
# Shorter than the time after which proxies drop a silent connection.
LONG_POLL_S = 30.0
# A request with an idempotency key is sent again where its connection fails.
RETRIES = 3
FIRST_RETRY_S = 0.2
_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}")
_PROBLEM = "application/problem+json"
_OF_HTTP = frozenset({"type", "title", "status", "instance"})
_SETTLED = frozenset({"succeeded", "failed", "expired", "refused", "cancelled"})


class Body(NamedTuple):
    """The body of an invocation and its media type."""

    content_type: str
    data: bytes


class Told(NamedTuple):
    """Destinations that hear of a job's result, and of any other end of it."""

    on_success: Sequence[str] = ()
    on_failure: Sequence[str] = ()


NOBODY = Told()


def is_settled(job: Record) -> bool:
    """Whether a job's record is final; the answer of a synchronous call has no status and is."""
    return "status" not in job or job["status"] in _SETTLED


class Client:
    """One gateway. Not for several threads at once: each takes a client of its own.

    Every method raises the error of `contract.errors` that the platform answers with, and
    Unreachable where nothing answers. Without `api_key` it shows that of FUSEBOX_API_KEY.
    """

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        # proxies of the environment are for the internet; looking them up costs 0.2 ms a request
        self._session.trust_env = False
        self._session.headers["Accept"] = "application/json"
        api_key = os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {_header(api_key)}"

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
        """Close the connection."""
        self._session.close()

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
        field = base64.b64encode(bytes.fromhex(digest)).decode()
        headers = {"Content-Digest": f"sha-256=:{field}:", "Content-Type": "application/x-tar"}
        if compute_ms:
            headers[HEADER] = format_probe(compute_ms)
        with artifact.open("rb") as tar:
            return self._call("PUT", _function(name), data=tar, headers=headers, wait_s=PATIENCE_S)

    def invoke(
        self,
        name: str,
        body: Body,
        wait_s: float | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        sticky: str | None = None,
        told: Told = NOBODY,
    ) -> Record:
        """Call a function; a job without result where it has none within `wait_s`.

        With an idempotency key, which must be new for every call that is meant to be another one,
        a failed connection is tried again: the platform runs the call once.
        """
        headers = {"Content-Type": body.content_type} | _idempotency(idempotency_key)
        headers |= _priority(priority) | _sticky(sticky) | _destinations(told)
        if wait_s is not None:
            headers["Prefer"] = f"wait={wait_s:g}"
        return self._invoke(name, body, headers)

    def submit(
        self,
        name: str,
        body: Body,
        idempotency_key: str | None = None,
        priority: int | None = None,
        sticky: str | None = None,
        told: Told = NOBODY,
    ) -> Record:
        """Call a function without waiting; the job as it was accepted. See `invoke`."""
        headers = {"Content-Type": body.content_type, "Prefer": "respond-async"}
        headers |= _idempotency(idempotency_key) | _priority(priority) | _sticky(sticky)
        headers |= _destinations(told)
        return self._invoke(name, body, headers)

    def job(self, job_id: str, wait_s: float | None = None) -> Record:
        """A job as it is, or as it is when it settles or `wait_s` have passed."""
        params = {} if wait_s is None else {"wait": f"{wait_s:g}"}
        patience_s = (wait_s or 0.0) + ANSWER_S
        return self._call("GET", _job(job_id), params=params, wait_s=patience_s)

    def wait(self, job_id: str, timeout_s: float | None = None) -> Record:
        """A job once it has settled; raises WaitTimeout."""
        give_up_at_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = LONG_POLL_S if give_up_at_s is None else give_up_at_s - time.monotonic()
            job = self.job(job_id, max(0.0, min(LONG_POLL_S, left_s)))
            if is_settled(job):
                return job
            if give_up_at_s is not None and time.monotonic() >= give_up_at_s:
                raise WaitTimeout(f"job {job_id} is still {job['status']}", job_id=job_id)

    def cancel(self, job_id: str) -> Record:
        """Cancel a job; raises JobSettled where it has a result."""
        return self._call("DELETE", _job(job_id))

    @contextmanager
    def events(self, job_id: str, last_id: str = "") -> Iterator[Iterator[bytes]]:
        """The lines of a job's event stream after an event; see `deploy.event_stream.follow`."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with self._reachable():
            answer = self._session.get(
                f"{self.url}{_job(job_id)}/events",
                headers=headers,
                stream=True,
                timeout=(CONNECT_S, LONG_POLL_S),
            )
            with answer:
                if answer.status_code != 200:
                    _record(answer, self.url)
                yield answer.iter_lines(chunk_size=None)  # type: ignore[call-overload]  # as it comes

    def functions(self) -> list[Record]:
        """The latest version of every function."""
        found: list[Record] = self._call("GET", "/v1/functions")["functions"]
        return found

    def function(self, name: str) -> Record:
        """One function, `NAME` or `NAME@3`."""
        return self._call("GET", _function(name))

    def remove(self, name: str) -> Record:
        """Take a function, or one version of it, out of service."""
        return self._call("DELETE", _function(name))

    def aliases(self, name: str) -> list[Record]:
        """Every alias of a function, by name."""
        found: list[Record] = self._call("GET", _alias(name))["aliases"]
        return found

    def put_alias(self, name: str, alias: str, versions: Mapping[int, int]) -> Record:
        """Make an alias or move it; `versions` are weights by version."""
        wish = {"versions": {str(version): weight for version, weight in versions.items()}}
        return self._call("PUT", _alias(name, alias), json=wish)

    def remove_alias(self, name: str, alias: str) -> Record:
        """Remove an alias; its versions stay."""
        return self._call("DELETE", _alias(name, alias))

    def roll_back(self, name: str, alias: str) -> Record:
        """Move an alias back to what it pointed at before."""
        return self._call("POST", f"{_alias(name, alias)}/rollback")

    def load(self, name: str, wait_s: float | None = None) -> Record:
        """Bring a function's weights into every worker and keep them; how far that is by then."""
        return self._place(name, "load", wait_s)

    def unload(self, name: str, wait_s: float | None = None) -> Record:
        """Take a function's weights out of every worker; the next call brings them back."""
        return self._place(name, "unload", wait_s)

    def _place(self, name: str, verb: str, wait_s: float | None) -> Record:
        params = {} if wait_s is None else {"wait": f"{wait_s:g}"}
        path = f"{_function(name)}/{verb}"
        return self._call("POST", path, params=params, wait_s=PATIENCE_S)

    def logs(self, name: str, count: int = 100, since_s: float = 0.0) -> list[Record]:
        """What a function's own code printed and raised; `since_s` is Unix seconds."""
        params = {"count": str(count)} | ({"since": f"{since_s:.3f}"} if since_s else {})
        found: list[Record] = self._call("GET", f"{_function(name)}/logs", params=params)["lines"]
        return found

    def graph(self, name: str) -> Record:
        """A function's operators, and the content hashes of its weights by name."""
        return self._call("GET", f"{_function(name)}/graph")

    def stats(self) -> Record:
        """Counters of all functions and of the platform."""
        return self._call("GET", "/v1/stats")

    def workers(self) -> list[Record]:
        """Every worker as it reports itself."""
        found: list[Record] = self._call("GET", "/v1/workers")["workers"]
        return found

    def groups(self, count: int = 100) -> list[Record]:
        """The groups that ended last, the newest first."""
        params = {"count": str(count)}
        found: list[Record] = self._call("GET", "/v1/groups", params=params)["groups"]
        return found

    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        rate: str | None = None,
        expires_in_s: float | None = None,
    ) -> Record:
        """Make an API key; `key` of this answer alone holds it."""
        wish: Record = {"name": name, "scopes": list(scopes)}
        limits = {"rate": rate, "expires_in_s": expires_in_s}
        wish |= {field: value for field, value in limits.items() if value is not None}
        return self._call("POST", "/v1/keys", json=wish)

    def keys(self) -> list[Record]:
        """Every API key, oldest first, without its secret."""
        found: list[Record] = self._call("GET", "/v1/keys")["keys"]
        return found

    def revoke_key(self, key_id: str) -> Record:
        """Revoke an API key."""
        return self._call("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def dead_letters(self, count: int = 100) -> Record:
        """The newest dead letters, and how many there are."""
        return self._call("GET", "/v1/dead-letters", params={"count": str(count)})

    def dead_letter(self, letter_id: str) -> Record:
        """One dead letter with its payload."""
        return self._call("GET", _letter(letter_id))

    def redrive(self, letter_id: str) -> Record:
        """Run a job again, or try a delivery anew; `job` of the answer is the job."""
        return self._call("POST", f"{_letter(letter_id)}/redrive")

    def purge(self, letter_id: str | None = None) -> Record:
        """Remove one dead letter, or all; `purged` of the answer says how many."""
        return self._call("DELETE", _letter(letter_id) if letter_id else "/v1/dead-letters")

    def webhook_secrets(self, is_rotated: bool = False) -> Record:
        """What webhooks are signed with, the newest first; made anew where that is wished."""
        if is_rotated:
            return self._call("POST", "/v1/webhooks/secret/rotate")
        return self._call("GET", "/v1/webhooks/secret")

    def create_trigger(self, wanted: Record) -> Record:
        """Make a trigger, as `docs/events.md` says what may be wanted."""
        return self._call("POST", "/v1/triggers", json=wanted)

    def triggers(self) -> list[Record]:
        """Every trigger, by name."""
        found: list[Record] = []
        params = {"count": "1000"}
        while True:
            page = self._call("GET", "/v1/triggers", params=params)
            found += page["triggers"]
            if page["next"] is None:
                return found
            params["after"] = page["next"]

    def trigger(self, name: str) -> Record:
        """One trigger, and how it fares."""
        return self._call("GET", _trigger(name))

    def remove_trigger(self, name: str) -> Record:
        """Remove a trigger and its place."""
        return self._call("DELETE", _trigger(name))

    def pause_trigger(self, name: str) -> Record:
        """Pause a trigger."""
        return self._call("POST", f"{_trigger(name)}/pause")

    def resume_trigger(self, name: str) -> Record:
        """Resume a trigger; one that fails tries at once."""
        return self._call("POST", f"{_trigger(name)}/resume")

    def test_trigger(self, name: str, event: Record | None) -> Record:
        """What the function would get for a CloudEvent; of a cron trigger also for its tick."""
        path = f"{_trigger(name)}/test"
        if event is None:
            return self._call("POST", path)
        headers = {"Content-Type": "application/cloudevents+json"}
        return self._call("POST", path, data=json.dumps(event), headers=headers)

    def send_events(self, events: Sequence[Record]) -> Record:
        """Send CloudEvents; accepted when each is a job of every trigger that it is for."""
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        return self._call("POST", "/v1/events", data=json.dumps(list(events)), headers=headers)

    def _invoke(self, name: str, body: Body, headers: Mapping[str, str]) -> Record:
        path = f"{_function(name)}/invoke"
        retries = RETRIES if "Idempotency-Key" in headers else 0
        for attempt in range(retries):
            try:
                return self._call("POST", path, data=body.data, headers=headers, wait_s=PATIENCE_S)
            except Unreachable:
                time.sleep(FIRST_RETRY_S * 2**attempt)  # a gateway that restarts needs a moment
        return self._call("POST", path, data=body.data, headers=headers, wait_s=PATIENCE_S)

    def _call(self, method: str, path: str, *, wait_s: float = ANSWER_S, **options: Any) -> Record:
        with self._reachable():
            answer = self._session.request(
                method, self.url + path, timeout=(CONNECT_S, wait_s), **options
            )
        return _record(answer, self.url)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except requests.Timeout as error:
            raise Unreachable(f"{self.url} does not answer in time", url=self.url) from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise Unreachable(
                f"no Fusebox answers at {self.url}; start one with `fusebox up`, "
                "or set FUSEBOX_URL",
                url=self.url,
            ) from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise MalformedBody(f"FUSEBOX_URL: {self.url!r} is no URL of a gateway") from error


def _header(value: str) -> str:
    """A value that a header can hold; the message does not show it, as it may be a secret."""
    if not value.isascii() or not value.isprintable():
        raise MalformedBody(f"{API_KEY_VARIABLE}: expected an API key, fb_<id>_<secret>")
    return value


def _idempotency(key: str | None) -> dict[str, str]:
    """The header of an idempotency key, a string as RFC 9651 writes it."""
    if key is None:
        return {}
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        expected = "1 to 255 printable ASCII characters"
        raise InvalidInput.of("idempotency key", expected, repr(key[:100]))
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    return {"Idempotency-Key": f'"{escaped}"'}


def _priority(priority: int | None) -> dict[str, str]:
    return {} if priority is None else {"Fusebox-Priority": str(priority)}


def _sticky(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput.of("sticky", "1 to 255 printable ASCII characters", repr(key[:100]))
    return {"Fusebox-Sticky": key}


def _destinations(told: Told) -> dict[str, str]:
    named = {"Fusebox-On-Success": told.on_success, "Fusebox-On-Failure": told.on_failure}
    return {name: ", ".join(texts) for name, texts in named.items() if texts}


def _letter(letter_id: str) -> str:
    return f"/v1/dead-letters/{quote(letter_id, safe='')}"


def _function(name: str) -> str:
    return f"/v1/functions/{quote(name, safe='@')}"


def _alias(name: str, alias: str = "") -> str:
    path = f"{_function(name)}/aliases"
    return f"{path}/{quote(alias, safe='')}" if alias else path


def _job(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _trigger(name: str) -> str:
    return f"/v1/triggers/{quote(name, safe='')}"


def _record(answer: requests.Response, url: str) -> Record:
    try:
        record = answer.json()
    except requests.exceptions.JSONDecodeError:
        record = None
    if answer.ok and isinstance(record, dict):
        return record
    if answer.headers.get("Content-Type", "").startswith(_PROBLEM) and isinstance(record, dict):
        raise decode_error({key: value for key, value in record.items() if key not in _OF_HTTP})
    reason = f"{answer.status_code} {answer.reason}".strip()
    if answer.status_code in (502, 503, 504):
        raise Unreachable(f"{url} answers {reason}", url=url)
    raise FuseboxError(f"{url} answers {reason}, not as a Fusebox does; is FUSEBOX_URL right?")
