"""JSON and msgpack that do harm to those who read them.

A reader that takes what is declared for what is there makes a gigabyte of an array's length, and
numpy makes every word of a list as wide as its longest.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgpack

from contract.errors import InvalidInput, MalformedBody
from contract.tensors import MAX_RANK

# {"inputs": {name: {dtype, shape, data}}}: arrays are shapes, maps have few keys
MAX_MAP = 1024


def check_json(body: bytes, names: Collection[str]) -> None:
    """Raise InvalidInput for words among the numbers, and for a name given twice.

    Numbers have no quotes and names cannot hold any, so counting them tells, in a pass that costs
    a hundredth of reading the body.
    """
    if body.count(b'"') != 2 + 2 * len(names):
        field = f"inputs.{next(iter(names))}" if len(names) == 1 else "inputs"
        raise InvalidInput.of(
            field, "nested lists of numbers, under every name once", "strings, or a name twice"
        )


def unpack_inputs(body: bytes) -> Any:
    """The value of a msgpack body of tensors; raises MalformedBody."""
    try:
        return msgpack.unpackb(
            body,
            max_array_len=MAX_RANK,
            max_map_len=MAX_MAP,
            max_ext_len=0,
            object_pairs_hook=_distinct,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedBody(f"body: not msgpack of tensors ({error})") from error


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key appears twice")
    return record


def check_msgpack(body: bytes) -> None:
    """Raise MalformedBody unless the body is one msgpack value; builds none of it."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(body), 1))
    unpacker.feed(body)
    try:
        unpacker.skip()
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedBody(f"body: not msgpack ({error or 'it breaks off'})") from error
    if unpacker.tell() != len(body):
        raise MalformedBody(f"body: {len(body) - unpacker.tell()} bytes after the msgpack value")
