"""Runs of one function whose weights are still on their way to the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fusion.blocks.steps import sink_views
from fusion.codegen import Program
from fusion.slots import Lease
from fusion.swapping.arriving import Arriving
from fusion.swapping.weights import ArrivingWeights
from fusion.tiers import Run, Tiers
from workers.dags import Call
from workers.library import Loaded
from workers.runs import Batch, rows_in


class ArrivingRuns:
    """Makes calls that wait for their weights part by part; nothing where weights are there."""

    def __init__(self) -> None:
        self._arriving = Arriving()

    def call_of(self, batch: Batch, loaded: Loaded, lease: Lease) -> Call | None:
        """A call with a program of its own; None where the weights are there."""
        key, rows = loaded.slot.key, rows_in(batch)
        weights = lease.slots[key].weights
        if not isinstance(weights, ArrivingWeights) or not weights.is_arriving:
            return None
        body = loaded.at(rows)
        graph = sink_views(body.graph)
        index = loaded.slot.index

        def run(_: object, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            return self._arriving.run(graph, index, weights, inputs)

        absent = [torch.empty(0)] * len(body.graph.weights)
        inputs = [job.inputs for job in batch]
        program = _program(body.program, run)
        return Call(key, body.graph, program, body.weight_keys, absent, inputs, rows)


def _program(plain: Program, run: Run) -> Program:
    return Program(plain.graph, "", run, Tiers(run), plain.row_groups)
