"""Inference responses: JSON, with the bytes of binary outputs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from contract.function import Function
from contract.job import Outcome
from gateway.answer import JSON, Answer, Header, dumps
from gateway.v2.datatypes import BYTES, OF_DTYPE, to_wire
from gateway.v2.encodings import LEAST_BYTES, accepted, deflated
from gateway.v2.models import RESULT, outputs
from gateway.v2.request import BINARY_SIZE, JSON_LENGTH, InferRequest, Wanted

OCTETS = "application/octet-stream"
Record = dict[str, Any]


class Asked(NamedTuple):
    """How a client wants to be answered."""

    id: str
    # none: all
    outputs: Sequence[Wanted]
    is_binary: bool
    accept_encoding: str

    @classmethod
    def by(cls, request: InferRequest | None, accept_encoding: str) -> Asked:
        """As a request says; None for a raw one."""
        if request is None:
            return cls("", (), True, accept_encoding)
        return cls(request.id, request.outputs, request.is_binary, accept_encoding)


def respond(function: Function, outcome: Outcome, asked: Asked) -> Answer:
    """The answer of a call that has outputs or a result."""
    wanted = asked.outputs or [
        Wanted(tensor.name, asked.is_binary) for tensor in outputs(function.manifest)
    ]
    described, tail = [], []
    for each in wanted:
        entry, data = _output(each, outcome)
        described.append(entry)
        if each.is_binary:
            tail.append(data)
    record: Record = {
        "model_name": function.name,
        "model_version": str(function.version),
        "outputs": described,
    }
    if asked.id:
        record["id"] = asked.id
    return _answer(dumps(record), tail, asked.accept_encoding)


def _answer(head: bytes, tail: Sequence[bytes], accept_encoding: str) -> Answer:
    headers: tuple[Header, ...] = ()
    body, media = head, JSON
    if tail:
        body, media = b"".join([head, *tail]), OCTETS
        headers += ((JSON_LENGTH, str(len(head))),)
    encoding = accepted(accept_encoding) if accept_encoding else ""
    if encoding and len(body) >= LEAST_BYTES:
        body = deflated(encoding, body)
        headers += (("Content-Encoding", encoding), ("Vary", "Accept-Encoding"))
    return Answer(body, 200, media, headers)


def _output(wanted: Wanted, outcome: Outcome) -> tuple[Record, bytes]:
    """How an output is described, with its values where they are JSON; and its bytes."""
    if outcome.outputs is None:
        assert wanted.name == RESULT, "it was checked when the call came"
        # whatever a postprocess returned, its JSON is the one element
        text = dumps(outcome.result)
        datatype, shape, data = BYTES, [1], to_wire(BYTES, [text])
        values: Any = [text.decode()]
    else:
        record = outcome.outputs[wanted.name]
        datatype, shape, data = OF_DTYPE[record["dtype"]], record["shape"], record["data"]
        values = np.frombuffer(data, record["dtype"])
    entry: Record = {"name": wanted.name, "datatype": datatype, "shape": shape}
    if wanted.is_binary:
        return entry | {"parameters": {BINARY_SIZE: len(data)}}, data
    return entry | {"data": values}, b""
