"""What is learned as fields of one hash: each changes by itself and is written by itself.

field                     holds
f:<name>@<n>              times of a function version, alone and beside others
s:<ref>*<rows> <ref>*..   factors of a set of members, rows as row buckets
n:<members>*<lanes>       factors of groups of a size
w:<tier>:<worker>         times of loads by bytes; without tier, or worker: of all of them
b                         times of builds by members
p                         times at workers / at deploy
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from contract.errors import UnknownFunction
from contract.function import FunctionRef
from contract.log import Log
from workers.scheduling.costs.curves import Curve
from workers.scheduling.costs.functions import FunctionCosts
from workers.scheduling.costs.interference import Interference, Members
from workers.scheduling.costs.samples import Recent
from workers.scheduling.costs.transfers import Transfers

log = Log("costs")

Kept = FunctionCosts | Recent | Curve


def function_field(ref: FunctionRef) -> str:
    """Of a function version."""
    return f"f:{ref}"


def set_field(members: Members) -> str:
    """Of a set of members."""
    return "s:" + " ".join(sorted(f"{ref}*{rows}" for ref, rows in members))


def size_field(members: int, lanes: int) -> str:
    """Of all groups of a size."""
    return f"n:{members}*{lanes}"


def swap_field(worker: str, tier: str) -> str:
    """Of loads."""
    return f"w:{tier}:{worker}"


BUILDS = "b"
PROBED = "p"


def encode_field(kept: Kept) -> bytes:
    """msgpack; floats as they are, so that predictions stay what they were."""
    packed = msgpack.packb(kept.as_list())
    assert isinstance(packed, bytes)
    return packed


def decode_into(
    fields: Mapping[str, bytes],
    functions: dict[FunctionRef, FunctionCosts],
    interference: Interference,
    transfers: Transfers,
    probed: Recent,
) -> None:
    """Fill a model with fields that were kept.

    A field of another format is left out and logged: it is learned again.
    """

    def function(name: str, record: Any) -> None:
        functions[FunctionRef.parse(name)] = FunctionCosts().read(record)

    def members(name: str, record: Any) -> None:
        pairs = (pair.rpartition("*") for pair in name.split(" "))
        key = frozenset((FunctionRef.parse(ref), int(rows)) for ref, _, rows in pairs)
        interference.by_set[key] = Recent.of(record)

    def size(name: str, record: Any) -> None:
        count, _, lanes = name.partition("*")
        interference.by_size[int(count), int(lanes)] = Recent.of(record)

    def swap(name: str, record: Any) -> None:
        tier, _, worker = name.partition(":")
        transfers.swaps[worker, tier] = Curve(fixed_share=0.0).read(record)

    def builds(_: str, record: Any) -> None:
        transfers.builds.read(record)

    def probe(_: str, record: Any) -> None:
        for sample in Recent.of(record).samples:
            probed.add(*sample)

    readers: dict[str, Callable[[str, Any], None]] = {
        "f": function, "s": members, "n": size, "w": swap, BUILDS: builds, PROBED: probe,
    }  # fmt: skip
    for field, data in fields.items():
        kind, _, name = field.partition(":")
        try:
            readers[kind](name, msgpack.unpackb(data))
        except (KeyError, ValueError, TypeError, UnknownFunction, msgpack.UnpackException) as error:
            log.warning("costs_not_read", field=field, reason=error)
