"""Manifests of a function with one input, with and without hooks."""

from __future__ import annotations

from dataclasses import replace

from contract.function import Manifest
from contract.tensors import TensorSpec

X = TensorSpec("x", "float32", (None, 4))
MANIFEST = Manifest(
    architecture="a" * 64,
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
