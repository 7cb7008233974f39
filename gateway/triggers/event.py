"""An event: what happened, whichever kind of trigger it is for; shaped as a CloudEvent."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from contract.errors import InvalidInput
from gateway.answer import JSON

RAW = "application/octet-stream"
# data that is the body's bytes, not yet a JSON value
_UNREAD: Any = object()


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. Its data is either bytes or a JSON value."""

    id: str
    source: str
    type: str
    # of the data; "" where the event has none, or says nothing of its type
    content_type: str = ""
    body: bytes | None = None
    value: Any = _UNREAD
    # subject, time, dataschema and extensions
    more: Mapping[str, Any] = field(default_factory=dict)

    def attribute(self, name: str) -> str | None:
        """A context attribute as text; None where the event does not have it."""
        if name in ("id", "source", "type"):
            return str(getattr(self, name))
        if name == "datacontenttype":
            return self.content_type or None
        value = self.more.get(name)
        if isinstance(value, bool):
            return str(value).lower()
        return None if value is None else str(value)

    @property
    def is_json(self) -> bool:
        """Whether the data is JSON, as its type says; data without a type is."""
        media = self.content_type.partition(";")[0].strip().lower()
        return not media or media == JSON or media.endswith("+json")

    def data(self) -> tuple[str, bytes]:
        """Content type and bytes of the data; b"" where there is none."""
        if self.value is _UNREAD:
            return self.content_type or RAW, self.body or b""
        if isinstance(self.value, str) and not self.is_json:
            return self.content_type, self.value.encode()
        try:
            return self.content_type or JSON, orjson.dumps(self.value)
        except orjson.JSONEncodeError as error:
            raise InvalidInput.of("data", "a value that nests less deep", str(error)) from error

    def record(self) -> dict[str, Any]:
        """The event as expressions see it: `data` is a JSON value or text, else `data_base64`."""
        record = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
        if self.content_type:
            record["datacontenttype"] = self.content_type
        return {**self.more, **record, **self._seen()}

    def _seen(self) -> dict[str, Any]:
        if self.value is not _UNREAD:
            return {"data": self.value}
        if not self.body:
            return {}
        if self.is_json:
            try:
                return {"data": orjson.loads(self.body)}
            except orjson.JSONDecodeError as error:
                actual = f"an error ({error})"
                raise InvalidInput.of("data", f"JSON, as its type says ({JSON})", actual) from error
        if self.content_type.lower().startswith("text/"):
            return {"data": self.body.decode(errors="replace")}
        return {"data_base64": base64.b64encode(self.body).decode()}
