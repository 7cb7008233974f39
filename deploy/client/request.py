"""What a client sends and what it hears, as values: nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from contract.errors import MalformedBody
from deploy.errors import Unreachable

CONNECT_S = 5.0
ANSWER_S = 30.0
# The gateway ends a long poll by itself; a deployment or an invocation may take long to begin one.
PATIENCE_S = 600.0
# An answer that was to be there after a wait is waited for so much longer.
GRACE_S = 5.0
# What one client has open at once, and what `map` may call at once.
MAX_CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `wait_s` is what the gateway may wait for a result, 0 not at all.

    A request that `is_repeatable` does no harm when it is sent again, though the one before may
    have been heard.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""
    patience_s: float = ANSWER_S
    wait_s: float | None = None
    is_repeatable: bool = False

    def within(self, left_s: float | None) -> Request:
        """The request of a caller who has only so much time left."""
        if left_s is None:
            return self
        wait_s = left_s if self.wait_s is None else min(self.wait_s, left_s)
        return replace(self, wait_s=wait_s, patience_s=min(self.patience_s, left_s + GRACE_S))

    @property
    def target(self) -> str:
        """Path and query."""
        params = dict(self.params)
        if self.wait_s is not None and self.method == "GET":
            params["wait"] = _seconds(self.wait_s)
        return f"{self.path}?{urlencode(params)}" if params else self.path

    @property
    def fields(self) -> dict[str, str]:
        """The header fields; those of every request are the transport's."""
        fields = dict(self.headers)
        if self.wait_s is not None and self.method != "GET":
            prefer = f"wait={_seconds(self.wait_s)}" if self.wait_s else "respond-async"
            fields["Prefer"] = prefer
        return fields


class Reply(NamedTuple):
    """An answer; the names of its header fields are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class Lost(NamedTuple):
    """No answer came; a request that was not sent has done nothing."""

    error: Unreachable
    was_sent: bool

    @classmethod
    def unsent(cls, url: str, cause: BaseException) -> Lost:
        """Nobody listens."""
        return cls(_unreachable(_nobody(url), url, cause), was_sent=False)

    @classmethod
    def broken(cls, url: str, cause: BaseException) -> Lost:
        """The connection ended first."""
        return cls(_unreachable(_nobody(url), url, cause), was_sent=True)

    @classmethod
    def late(cls, url: str, cause: BaseException) -> Lost:
        """It did not come in time."""
        return cls(_unreachable(f"{url} does not answer in time", url, cause), was_sent=True)


def check_url(url: str) -> str:
    """The URL of a gateway without a slash at its end; raises MalformedBody."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_good = is_good and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:
        is_good = False
    if not is_good or not url.isprintable() or " " in url:
        raise MalformedBody(f"FUSEBOX_URL: {url!r:.200} is no URL of a gateway")
    return url.rstrip("/")


def function_path(name: str) -> str:
    """`NAME` or `NAME@3`, quoted so that it reaches no other route."""
    return f"/v1/functions/{quote(name, safe='@')}"


def job_path(job_id: str) -> str:
    """A job's path."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _unreachable(detail: str, url: str, cause: BaseException) -> Unreachable:
    error = Unreachable(detail, url=url)
    error.__cause__ = cause
    return error


def _nobody(url: str) -> str:
    return f"no Fusebox answers at {url}; start one with `fusebox up`, or set FUSEBOX_URL"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
