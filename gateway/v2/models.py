"""Functions as V2 models: their names and versions, their tensors, their metadata and config.

A function with a `preprocess` has one input, PAYLOAD, and one with a `postprocess` one output,
RESULT: both BYTES of shape [1]. All others have the tensors of their manifest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from contract.errors import UnknownFunction
from contract.function import Function, FunctionRef, Manifest
from contract.tensors import TensorSpec
from gateway.v2.datatypes import BYTES, OF_DTYPE

PAYLOAD, RESULT = "payload", "result"
GRAPH, EAGER = "fusebox_graph", "fusebox_eager"
# a size that differs between requests
VARIABLE = -1
# tensors of functions that are called
REMEMBERED = 4096
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
Record = dict[str, Any]


class ModelTensor(NamedTuple):
    """One input or output of a model, the dimension of rows included."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> Record:
        """As metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


_PAYLOADS = (ModelTensor(PAYLOAD, BYTES, (1,)),)
_RESULTS = (ModelTensor(RESULT, BYTES, (1,)),)


def ref_of(model: str, version: str | None = None) -> FunctionRef:
    """The version that a path names; raises UnknownFunction in the words of V2's clients."""
    try:
        ref = FunctionRef.parse(model)
    except UnknownFunction as error:
        raise UnknownFunction(unknown(model, version)) from error
    if version is None:
        return ref
    if not _VERSION.fullmatch(version) or ref.version not in (0, int(version)):
        raise UnknownFunction(unknown(model, version))
    return ref._replace(version=int(version))


def unknown(model: str, version: str | None = None) -> str:
    """What is said of a model, or of a version, that is not there."""
    which = f" version {version:.100}" if version else ""
    return f"Request for unknown model: '{model:.100}'{which} is not found"


def inputs(manifest: Manifest) -> tuple[ModelTensor, ...]:
    """A model's inputs."""
    return _PAYLOADS if manifest.has_preprocess else _tensors(manifest.inputs)


def outputs(manifest: Manifest) -> tuple[ModelTensor, ...]:
    """A model's outputs."""
    return _RESULTS if manifest.has_postprocess else _tensors(manifest.outputs)


@lru_cache(REMEMBERED)
def _tensors(specs: tuple[TensorSpec, ...]) -> tuple[ModelTensor, ...]:
    return tuple(map(_tensor, specs))


def _tensor(spec: TensorSpec) -> ModelTensor:
    shape = tuple(VARIABLE if size is None else size for size in spec.shape)
    return ModelTensor(spec.name, OF_DTYPE[spec.dtype], shape)


def metadata(function: Function, versions: Sequence[int]) -> Record:
    """GET /v2/models/<model>."""
    manifest = function.manifest
    return {
        "name": function.name,
        "versions": [str(version) for version in versions],
        "platform": EAGER if manifest.is_eager else GRAPH,
        "inputs": [tensor.as_json() for tensor in inputs(manifest)],
        "outputs": [tensor.as_json() for tensor in outputs(manifest)],
    }


def config(function: Function) -> Record:
    """GET /v2/models/<model>/config, as much of Triton's as clients look at.

    Where every tensor has rows first, they are the batch, and dims are without it.
    """
    manifest = function.manifest
    tensors = [*inputs(manifest), *outputs(manifest)]
    has_batch = all(tensor.shape[:1] == (VARIABLE,) for tensor in tensors)
    is_dynamic = manifest.is_batchable and has_batch
    record: Record = {
        "name": function.name,
        "platform": EAGER if manifest.is_eager else GRAPH,
        "backend": "fusebox",
        "version_policy": {"specific": {"versions": [function.version]}},
        "max_batch_size": manifest.max_batch if has_batch else 0,
        "input": [_config(tensor, has_batch) for tensor in inputs(manifest)],
        "output": [_config(tensor, has_batch) for tensor in outputs(manifest)],
    }
    return record | ({"dynamic_batching": {}} if is_dynamic else {})


def _config(tensor: ModelTensor, has_batch: bool) -> Record:
    dims = tensor.shape[1:] if has_batch else tensor.shape
    datatype = "STRING" if tensor.datatype == BYTES else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": list(dims)}
