"""`fusebox deploy`, up to the upload: load, export, compare, measure, pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.errors import InvalidArtifact
from contract.function import MANIFEST, NAME, WEIGHTS, Manifest, graph_files
from contract.tensors import TensorSpec
from deploy.artifact import write_tar
from deploy.errors import PackagingError
from deploy.hooks import Hooks, find_hooks
from deploy.options import Options
from deploy.user_code import Source, find_source, imported

if TYPE_CHECKING:
    from deploy.model import Model
    from fusion.check import Comparison
    from fusion.export import Exported

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """An artifact that is ready to be uploaded, and what people want to know of it."""

    name: str
    tar: Path
    digest: str
    artifact_bytes: int
    manifest: Manifest
    largest_difference: float
    largest_relative_difference: float
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The package as plain JSON values."""
        record = asdict(self) | self.manifest.as_json()
        return {key: value for key, value in record.items() if key not in ("tar", "manifest")}


def package(path: Path, options: Options, folder: Path, on_step: OnStep) -> Package:
    """Make the artifact of a model in `folder`; raises PackagingError.

    `on_step` is told what begins: load, export, compare, measure, pack.
    """
    source = find_source(path)
    name = function_name(source, options.name)
    on_step("load")
    import deploy.model as models  # torch takes seconds to import

    with _loaded(source, options.include) as (model, hooks, notes):
        max_batch = min(options.max_batch, model.max_rows or options.max_batch)
        on_step("export")
        exported = models.export_model(model, max_batch)
        buckets = exported.row_buckets
        max_batch = buckets[-1] if buckets else max_batch
        on_step("compare")
        comparison = models.check(model, exported, sorted({1, min(2, max_batch), max_batch}))
        on_step("measure")
        activation_bytes = models.measure(model, exported, buckets or sorted({1, max_batch}))
        on_step("pack")
        members, weight_bytes = _write_members(exported, folder)
        manifest = _manifest(
            exported, model, hooks, options, max_batch, weight_bytes, activation_bytes
        )
        return _pack(name, folder, members, hooks, manifest, comparison, notes + exported.notes)


def function_name(source: Source, given: str | None) -> str:
    """The name to deploy under; raises PackagingError for one that no function can have."""
    name = source.default_name if given is None else given
    if not NAME.fullmatch(name):
        raise PackagingError(
            f"name: expected 1 to 63 lower-case letters, digits and hyphens, got {name!r}; "
            "choose one with --name"
        )
    return name


@contextmanager
def _loaded(
    source: Source, include: tuple[Path, ...]
) -> Iterator[tuple[Model, Hooks, tuple[str, ...]]]:
    from deploy.model import from_handler, from_program

    if source.is_program:
        if include:
            raise PackagingError("--include: a .pt2 program has no hooks that could read files")
        yield from_program(source.path), Hooks(), ()
        return
    with imported(source.path) as code:
        hooks, notes = find_hooks(code, include)
        yield from_handler(code), hooks, notes


def _write_members(exported: Exported, folder: Path) -> tuple[dict[str, Path], int]:
    from fusion.weights import write_weights

    index = write_weights(folder / WEIGHTS, exported.weights)
    members = {WEIGHTS: folder / WEIGHTS}
    for name, graph in zip(graph_files(exported.row_buckets), exported.graphs, strict=True):
        members[name] = folder / name
        members[name].write_bytes(graph.encode())
    return members, index.data_bytes


def _manifest(
    exported: Exported,
    model: Model,
    hooks: Hooks,
    options: Options,
    max_batch: int,
    weight_bytes: int,
    activation_bytes: dict[int, int],
) -> Manifest:
    graph = exported.graph
    manifest = Manifest(
        architecture=graph.architecture,
        inputs=tuple(TensorSpec(*spec) for spec in graph.inputs),
        outputs=tuple(TensorSpec(*output.spec) for output in graph.outputs),
        parameters=model.parameters,
        weight_bytes=weight_bytes,
        activation_bytes=activation_bytes,
        operators_exported=exported.nodes_before,
        operators=exported.nodes_after,
        max_batch=max_batch,
        is_batchable=exported.batchable,
        has_preprocess="preprocess" in hooks.names,
        has_postprocess="postprocess" in hooks.names,
        slo_ms=options.slo_ms,
        timeout_ms=options.timeout_ms,
        keep_alive_s=options.keep_alive_s,
        row_buckets=exported.row_buckets,
    )
    try:
        # the platform refuses what this refuses: better before the upload
        return Manifest.decode(manifest.encode())
    except InvalidArtifact as error:
        raise PackagingError(error.detail) from error


def _pack(
    name: str,
    folder: Path,
    members: dict[str, Path],
    hooks: Hooks,
    manifest: Manifest,
    comparison: Comparison,
    warnings: tuple[str, ...],
) -> Package:
    (folder / MANIFEST).write_bytes(manifest.encode())
    members = members | {MANIFEST: folder / MANIFEST} | dict(hooks.members)
    tar = folder / "artifact.tar"
    digest = write_tar(tar, members)
    size_bytes = tar.stat().st_size
    return Package(
        name,
        tar,
        digest,
        size_bytes,
        manifest,
        comparison.absolute,
        comparison.relative,
        warnings,
    )
