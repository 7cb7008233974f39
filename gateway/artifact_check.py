"""Is an unpacked artifact what its manifest says? What is hostile is read by another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from contract.errors import InvalidArtifact
from contract.function import GRAPH, HANDLER, MANIFEST, WEIGHTS, Manifest
from contract.tensors import TensorSpec

MAX_MANIFEST_BYTES = 4 * 2**20
# by the clock, beside the processor time that the inspection allows itself
INSPECTION_S = 120
BYTES_PER_S = 25 * 10**6


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an unpacked artifact whose parts fit together; raises InvalidArtifact."""
    for name in (MANIFEST, GRAPH, WEIGHTS):
        if not (folder / name).is_file():
            raise InvalidArtifact(f"{name}: missing")
    if (folder / MANIFEST).stat().st_size > MAX_MANIFEST_BYTES:
        raise InvalidArtifact(f"{MANIFEST}: expected at most {MAX_MANIFEST_BYTES} bytes")
    manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    if manifest.has_hooks and not (folder / HANDLER).is_file():
        raise InvalidArtifact(f"{HANDLER}: missing, though {MANIFEST} says that it has hooks")
    _compare(manifest, _inspect(folder / GRAPH, folder / WEIGHTS))
    return manifest


def _inspect(graph: Path, weights: Path) -> Mapping[str, Any]:
    """What `fusion.inspection` says of them; raises InvalidArtifact."""
    command = [sys.executable, "-m", "fusion.inspection", str(graph), str(weights)]
    limit_s = INSPECTION_S + weights.stat().st_size / BYTES_PER_S
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise InvalidArtifact(f"artifact: not read within {limit_s:.0f} s") from error
    if done.returncode < 0:
        # its own limit on processor time
        raise InvalidArtifact("artifact: takes too long to read")
    if done.returncode:
        raise RuntimeError(f"the inspection failed: {done.stderr.decode(errors='replace')}")
    found: dict[str, Any] = orjson.loads(done.stdout)
    if "error" in found:
        raise InvalidArtifact(f"artifact: {found['error']:.500}")
    return found


def _compare(manifest: Manifest, found: Mapping[str, Any]) -> None:
    """Raise InvalidArtifact where the manifest says other than the graph and the weights."""
    for key in ("architecture", "weight_bytes"):
        _expect(key, found[key], getattr(manifest, key))
    for key in ("inputs", "outputs"):
        specs = tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in found[key])
        _expect(key, specs, getattr(manifest, key))
    if manifest.is_batchable and not found["batchable"]:
        _expect("is_batchable", False, True)
    rows = found["fixed_rows"]
    if rows is not None:
        _expect("max_batch", rows, manifest.max_batch)


def _expect(key: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise InvalidArtifact(
            f"{MANIFEST}: {key}: expected {expected!s:.300} as the artifact has it, "
            f"got {actual!s:.300}"
        )
