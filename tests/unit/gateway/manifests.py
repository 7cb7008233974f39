"""A function with one input: its manifests, with and without hooks, its graph and its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from contract.function import Manifest
from contract.tensors import TensorSpec
from fusion.ir import Graph, Node, Output, Ref, WeightSpec
from fusion.ir import TensorSpec as GraphSpec

X = TensorSpec("x", "float32", (None, 4))
ECHO = Graph(
    (GraphSpec(*X),),
    (WeightSpec("w", "float32", (4,)),),
    (Node("clone", (Ref("input", 0),)),),
    (Output(GraphSpec(*X), Ref("node", 0)),),
)
MANIFEST = Manifest(
    architecture=ECHO.architecture,
    inputs=(X,),
    outputs=(X,),
    parameters=4,
    weight_bytes=16,
    activation_bytes={1: 32},
    operators_exported=2,
    operators=1,
    max_batch=8,
    is_batchable=True,
    has_preprocess=False,
    has_postprocess=False,
    slo_ms=None,
    timeout_ms=20_000,
    keep_alive_s=None,
)
WITH_HOOKS = replace(MANIFEST, has_preprocess=True, has_postprocess=True)


def weights_file(header: dict[str, object] | None = None, data: bytes = bytes(16)) -> bytes:
    """A weights file with four zeros under `w`, or with this header and this data."""
    digest = hashlib.sha256(data).hexdigest()
    header = header or {
        "__metadata__": {"sha256.w": digest},
        "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
    }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % 4096)
    return len(encoded).to_bytes(8, "little") + encoded + data
