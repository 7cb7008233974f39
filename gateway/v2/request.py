"""Inference requests: what a body says, checked for form and not yet against a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from contract.errors import MalformedBody, RequestError
from contract.tensors import MAX_NAME, MAX_RANK, Tensor
from gateway.v2.datatypes import DATATYPES, Elements, from_json, from_wire

# a function has no more
MAX_TENSORS = 256
MAX_ID_CHARS = 1024
MAX_PARAMETERS = 256
JSON_LENGTH = "Inference-Header-Content-Length"
BINARY_SIZE, BINARY, BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_UNSUPPORTED = {
    "shared_memory_region": "shared memory is",
    "classification": "the classification extension is",
}
Record = Mapping[str, Any]


class Input(NamedTuple):
    """One tensor of a request; BYTES are a list of their elements."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    value: Tensor | Elements
    parameters: Record


class Wanted(NamedTuple):
    """One output that a request asks for."""

    name: str
    is_binary: bool


class InferRequest(NamedTuple):
    """A request; `outputs` is empty where all are wanted."""

    id: str
    parameters: Record
    inputs: tuple[Input, ...]
    outputs: tuple[Wanted, ...]
    # of outputs that are not asked for by name
    is_binary: bool


class RawRequest(NamedTuple):
    """A body that is the bytes of the one input, in a batch of 1; its outputs are binary."""

    data: memoryview


def parse(body: bytes, json_length: str | None) -> InferRequest | RawRequest:
    """The request of a body and its JSON_LENGTH header; raises RequestError, MalformedBody."""
    whole = memoryview(body)
    if json_length is None:
        return _parse(whole, None)
    if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 20):
        raise _bad_length(json_length, len(body))
    length = int(json_length)
    if length > len(body):
        raise _bad_length(json_length, len(body))
    if length == 0:
        return RawRequest(whole)
    return _parse(whole[:length], whole[length:])


def _bad_length(text: str, body_bytes: int) -> RequestError:
    return RequestError(f"{JSON_LENGTH}: expected 0 to {body_bytes}, got {text[:100]!r}")


def _parse(text: memoryview, binary: memoryview | None) -> InferRequest:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"failed to parse the request JSON buffer: {error}") from error
    if not isinstance(record, dict):
        raise RequestError("request: expected a JSON object")
    parameters = parameters_of("request", record)
    is_binary = _flag("request", parameters, BINARY_OUTPUT, False)
    return InferRequest(
        _id(record),
        parameters,
        _inputs(record, binary),
        _outputs(record, is_binary),
        is_binary,
    )


def _id(record: Record) -> str:
    value = record.get("id")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS:
        raise RequestError(f"id: expected a string of at most {MAX_ID_CHARS} characters")
    return value


def parameters_of(where: str, record: Record) -> Record:
    """The parameters of a request or of a tensor: plain values; raises RequestError."""
    value = record.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_PARAMETERS:
        raise RequestError(
            f"{where}: expected parameters to be an object of at most {MAX_PARAMETERS} members"
        )
    for name, each in value.items():
        if name in _UNSUPPORTED:
            raise RequestError(f"{where}: {_UNSUPPORTED[name]} not supported")
        if isinstance(each, list | dict):
            raise RequestError(
                f"{where}: parameter {name!r:.100}: expected a string, a number or a bool"
            )
    return value


def _flag(where: str, parameters: Record, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{where}: parameter {name}: expected true or false")
    return value


def _records(record: Record, field: str) -> list[Record]:
    """The objects of `inputs` or `outputs`, each with a name of its own."""
    value = record.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise RequestError(f"{field}: expected an array of objects")
    if len(value) > MAX_TENSORS:
        raise RequestError(f"{field}: expected at most {MAX_TENSORS}, got {len(value)}")
    names = [each.get("name") for each in value]
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names):
        raise RequestError(f"{field}: expected a name of 1 to {MAX_NAME} characters in each")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(f"{field[:-1]} '{twice:.100}' already exists in request")
    return value


def _inputs(record: Record, binary: memoryview | None) -> tuple[Input, ...]:
    found, at = [], 0
    for each in _records(record, "inputs"):
        name, datatype, shape = each["name"], _datatype(each), _shape(each)
        parameters = parameters_of(f"input '{name}'", each)
        size = parameters.get(BINARY_SIZE)
        if size is None:
            if "data" not in each:
                raise RequestError(f"input '{name}': expected data or parameter {BINARY_SIZE}")
            value = from_json(name, datatype, shape, each["data"])
        else:
            data = _slice(name, size, at, each, binary)
            at += len(data)
            value = from_wire(name, datatype, shape, data)
        found.append(Input(name, datatype, shape, value, parameters))
    if binary is not None and at != len(binary):
        raise RequestError(
            f"unexpected additional input data: {len(binary) - at} bytes behind the last input"
        )
    return tuple(found)


def _slice(name: str, size: Any, at: int, record: Record, binary: memoryview | None) -> memoryview:
    if type(size) is not int or size < 0:
        raise RequestError(f"input '{name}': parameter {BINARY_SIZE}: expected a number of bytes")
    if binary is None:
        raise RequestError(f"input '{name}': must specify {JSON_LENGTH} to send binary data")
    if record.get("data") is not None:
        raise RequestError(f"input '{name}': expected data or parameter {BINARY_SIZE}, got both")
    if at + size > len(binary):
        raise RequestError(
            f"unexpected size for input '{name}', expecting {at + size - len(binary)} "
            "additional bytes"
        )
    return binary[at : at + size]


def _datatype(record: Record) -> str:
    value = record.get("datatype")
    if not isinstance(value, str) or value not in DATATYPES:
        raise RequestError(
            f"input '{record['name']}': expected datatype to be one of {', '.join(DATATYPES)}, "
            f"got {value!r:.100}"
        )
    return value


def _shape(record: Record) -> tuple[int, ...]:
    value = record.get("shape")
    if (
        not isinstance(value, list)
        or len(value) > MAX_RANK
        or not all(type(n) is int and 0 <= n < 2**40 for n in value)
    ):
        raise RequestError(
            f"input '{record['name']}': expected shape to be an array of at most {MAX_RANK} sizes, "
            f"got {value!r:.100}"
        )
    return tuple(value)


def _outputs(record: Record, is_binary: bool) -> tuple[Wanted, ...]:
    found = []
    for each in _records(record, "outputs"):
        where = f"output '{each['name']}'"
        found.append(
            Wanted(each["name"], _flag(where, parameters_of(where, each), BINARY, is_binary))
        )
    return tuple(found)
