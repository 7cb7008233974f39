"""Is an unpacked artifact what its manifest says? What is hostile is read by another process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from contract.acceptance import file_state, note_accepted
from contract.errors import InvalidArtifact
from contract.function import HANDLER, MANIFEST, WEIGHTS, Manifest
from contract.tensors import TensorSpec

MAX_MANIFEST_BYTES = 4 * 2**20
# by the clock, beside the processor time that the inspection allows itself
INSPECTION_S = 120
BYTES_PER_S = 25 * 10**6


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an unpacked artifact whose parts fit together; raises InvalidArtifact.

    Leaves a note for workers, who need not hash the weights again.
    """
    _expect_files(folder, (MANIFEST, WEIGHTS))
    if (folder / MANIFEST).stat().st_size > MAX_MANIFEST_BYTES:
        raise InvalidArtifact(f"{MANIFEST}: expected at most {MAX_MANIFEST_BYTES} bytes")
    manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    _expect_files(folder, manifest.graph_files)
    unknown = {path.name for path in folder.glob("graph*.json")} - {*manifest.graph_files}
    if unknown:
        raise InvalidArtifact(f"{min(unknown)}: a graph that {MANIFEST} does not name")
    if manifest.has_hooks or manifest.is_eager:
        what = "has hooks" if manifest.has_hooks else "runs eagerly"
        _expect_files(folder, (HANDLER,), f", though {MANIFEST} says that it {what}")
    if manifest.is_eager:
        digest = hashlib.sha256((folder / HANDLER).read_bytes()).hexdigest()
        _expect("architecture", digest, manifest.architecture)
    graphs = [folder / name for name in manifest.graph_files]
    state = file_state(folder / WEIGHTS)
    _compare(manifest, ask("fusion.inspection", folder / WEIGHTS, graphs))
    note_accepted(folder / WEIGHTS, state)
    return manifest


def _expect_files(folder: Path, names: Iterable[str], though: str = "") -> None:
    for name in names:
        if not (folder / name).is_file():
            raise InvalidArtifact(f"{name}: missing{though}")


def ask(module: str, weights: Path, graphs: Sequence[Path]) -> Mapping[str, Any]:
    """What another process says of them, which runs this module; raises InvalidArtifact."""
    command = [sys.executable, "-m", module, str(weights), *map(str, graphs)]
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
    """Raise InvalidArtifact where the manifest says other than the graphs and the weights."""
    _expect("weight_bytes", found["weight_bytes"], manifest.weight_bytes)
    graphs = found["graphs"]
    if not graphs:
        return
    _expect("architecture", graphs[0]["architecture"], manifest.architecture)
    for graph in graphs:
        for key in ("inputs", "outputs"):
            specs = tuple(TensorSpec(name, kind, tuple(shape)) for name, kind, shape in graph[key])
            _expect(key, specs, getattr(manifest, key))
        if manifest.is_batchable and not graph["batchable"]:
            _expect("is_batchable", False, True)
    rows = [graph["fixed_rows"] for graph in graphs]
    if manifest.row_buckets:
        _expect("row_buckets", rows, list(manifest.row_buckets))
    elif rows != [None]:
        _expect("max_batch", rows[0], manifest.max_batch)


def _expect(key: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise InvalidArtifact(
            f"{MANIFEST}: {key}: expected {expected!s:.300} as the artifact has it, "
            f"got {actual!s:.300}"
        )
