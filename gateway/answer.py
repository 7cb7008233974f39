"""What a handler answers: status, headers and a body that is complete."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

JSON = "application/json"
Header = tuple[str, str]

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Answer(NamedTuple):
    """An HTTP response; `headers` holds neither Content-Type nor Content-Length."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: tuple[Header, ...] = ()

    @property
    def wsgi_headers(self) -> list[Header]:
        """All headers, as a WSGI server takes them; without content none that describe content."""
        if self.status == 204:
            return [*self.headers]
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            *self.headers,
        ]


def dumps(value: Any) -> bytes:
    """Compact JSON; numpy arrays become nested lists, NaN and infinities null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def json_answer(value: Any, status: int = 200, headers: Iterable[Header] = ()) -> Answer:
    """A JSON document."""
    return Answer(dumps(value), status, JSON, tuple(headers))


def rfc3339(at_s: float) -> str:
    """A moment in UTC, to the millisecond; `at_s` is Unix seconds."""
    moment = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
