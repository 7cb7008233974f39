"""Calls of functions on the device: what they read, and what they take."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from contract.errors import InvalidInput
from contract.tensors import Tensors
from fusion.index_ranges import IndexRange
from fusion.ir import Graph
from fusion.slots import Lease
from workers.dags import Call
from workers.library import Loaded
from workers.runs import Batch, rows_in


def outside(inputs: Tensors, ranges: Iterable[IndexRange]) -> InvalidInput | None:
    """What is wrong with indices: an operator that reads beyond its table ends a CUDA process."""
    for name, low, high in ranges:
        values = inputs[name]
        for value in (values.min(), values.max()) if values.size else ():
            if not low <= value < high:
                expected = f"indices from {low} to {high - 1}"
                return InvalidInput.of(f"inputs.{name}", expected, str(value))
    return None


def scratch_bytes(batch: Batch) -> int:
    """Activation bytes that a batch needs, by what was measured at deploy."""
    return batch[0].function.manifest.activation_bytes_at(rows_in(batch))


def weights_of(lease: Lease, key: str, graph: Graph) -> list[Tensor]:
    """A leased function's weights in the order of one of its graphs, device.

    Not to outlive the lease.
    """
    by_name = dict(zip(lease.names(key), lease.tensors(key), strict=True))
    return [by_name[spec.name] for spec in graph.weights]


def call_of(batch: Batch, loaded: Loaded, lease: Lease) -> Call:
    """What a batch is for a fused DAG."""
    rows, key = rows_in(batch), loaded.slot.key
    body = loaded.at(rows)
    weights = weights_of(lease, key, body.graph)
    inputs = [job.inputs for job in batch]
    return Call(key, body.graph, body.program, body.weight_keys, weights, inputs, rows)
