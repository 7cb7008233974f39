"""Runs of groups, and what is told of them."""

from __future__ import annotations

import numpy as np
import torch

from fusion.cache import DagCache
from fusion.dag import FusedDag
from fusion.export import export
from fusion.members import DagKey
from fusion.specialise import specialised
from fusion.strategies.lanes import Lanes
from tests.zoo import ZOO
from workers.dags import Call, Dags


def a_call(name: str, model: str) -> Call:
    """One job of one row."""
    example = ZOO[model]()
    made = export(example.module, example.inputs, 8)
    inputs = {key: np.array(x[:1].numpy()) for key, x in example.inputs.items()}
    keys = tuple(f"{name}.{weight}" for weight in made.weights)
    program = specialised(made.graph, "cpu")
    return Call(name, made.graph, program, keys, [*made.weights.values()], [inputs], 1)


def test_threads_are_told_of_what_was_tried_side_by_side() -> None:
    """Each function under its own name, on one thread; nothing before it has been tried."""
    calls = [a_call("a@1", "mlp"), a_call("b@2", "tiny_cnn"), a_call("c@1", "embedding")]
    group = "a@1 x1 + b@2 x1 + c@1 x1"
    cache: DagCache[DagKey, FusedDag] = DagCache(2**30)
    with Lanes(2) as lanes:
        dags = Dags(cache, torch.device("cpu"), lanes)
        dags.run(calls)
        assert list(dags.strategies()) == [group]
        assert dags.lanes() == {}
        while "branches" not in dags.measured()[group]:
            dags.run(calls)
        shares = dags.lanes()[group]
        assert sorted(name for share in shares for name in share) == ["a@1", "b@2", "c@1"]
        assert len(shares) == 2
        fused = cache.entries()[0]
        architectures = {call.name: call.graph.architecture for call in calls}
        ran = [[fused.members[k].architecture for k in lane] for lane in fused.lanes]
        assert [[architectures[name] for name in share] for share in shares] == ran
