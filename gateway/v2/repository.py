"""Triton's repository extension: what there is, brought in and kept, or evicted, by name.

A deployed function is ready whether its weights are in memory or not: the next request brings them.
"""

from __future__ import annotations

from typing import Any

import orjson

from contract.errors import MalformedBody, RequestError, Unavailable, UnknownFunction
from contract.store.wanted import Place, Progress
from gateway.answer import Answer, json_answer
from gateway.context import Gateway
from gateway.loading import WAIT_S, fulfil
from gateway.v2.models import ref_of
from gateway.v2.request import Record, parameters_of

MAX_BODY_BYTES = 1 << 20
READY, UNAVAILABLE = "READY", "UNAVAILABLE"
_OVERRIDES = ("config", "file:")


def index(gateway: Gateway, body: bytes) -> Answer:
    """POST /v2/repository/index: every deployed version."""
    record = _record(body)
    only_ready = record.get("ready", False)
    if not isinstance(only_ready, bool):
        raise RequestError("ready: expected true or false")
    is_ready = any(not worker.is_draining for worker in gateway.store.workers.all())
    state: dict[str, Any] = {"state": READY}
    if not is_ready:
        state = {"state": UNAVAILABLE, "reason": "there is no worker"}
    if only_ready and not is_ready:
        return json_answer([])
    return json_answer(
        [
            {"name": name, "version": str(version), **state}
            for name, versions in gateway.store.functions.numbers().items()
            for version in versions
        ]
    )


def load(gateway: Gateway, model: str, body: bytes) -> Answer:
    """POST /v2/repository/models/<model>/load: bring its latest version in, and keep it."""
    for name in parameters_of("load", _record(body)):
        if name.startswith(_OVERRIDES):
            raise RequestError(
                f"failed to load '{model:.100}', parameter {name!r:.100} is not supported: "
                "versions are immutable; deploy another one"
            )
    try:
        _place(gateway, model, Place.LOADED)
    except UnknownFunction as error:
        raise UnknownFunction(
            f"failed to load '{model:.100}', failed to poll from model repository"
        ) from error
    return Answer(b"")


def unload(gateway: Gateway, model: str, body: bytes) -> Answer:
    """POST /v2/repository/models/<model>/unload: evict it; what is not there is out already."""
    # `unload_dependents` has nothing to say: no function depends on another
    parameters_of("unload", _record(body))
    try:
        _place(gateway, model, Place.UNLOADED)
    except UnknownFunction:
        return Answer(b"")
    return Answer(b"")


def _place(gateway: Gateway, model: str, place: Place) -> None:
    found = fulfil(gateway, ref_of(model), place, WAIT_S)
    if found.progress is Progress.UNDER_WAY:
        raise Unavailable(f"'{model}' is still {found.state}; workers go on with it.")


def _record(body: bytes) -> Record:
    """The object of a body that may be empty."""
    if not body.strip():
        return {}
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"failed to parse the request JSON buffer: {error}") from error
    if not isinstance(record, dict):
        raise RequestError("request: expected a JSON object")
    return record
