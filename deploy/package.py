"""`fusebox deploy`, up to the upload: load, export, compare, measure, pack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contract.errors import InvalidArtifact
from contract.function import MANIFEST, NAME, WEIGHTS, Manifest, graph_files
from contract.tensors import TensorSpec
from deploy.artifact import write_tar
from deploy.errors import NotExportable, PackagingError
from deploy.hooks import Hooks, find_hooks, source_files, unread_files
from deploy.options import Options
from deploy.user_code import Source, UserCode, find_source, imported
from fusion.errors import FusionError

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
    # of a run on this machine, by rows
    compute_ms: dict[int, float]

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
    with _loaded(source, options.include) as user:
        max_batch = min(options.max_batch, user.model.max_rows or options.max_batch)
        try:
            made = _as_graph(user, options, max_batch, folder, on_step)
        except NotExportable as error:
            if user.code is None or not options.eager:
                raise
            made = _as_it_is(user, user.code, error, options, max_batch, folder, on_step)
        return _pack(name, folder, made)


class _User(NamedTuple):
    """What the user's file gives."""

    model: Model
    hooks: Hooks
    # None of an exported program
    code: UserCode | None = None


class _Made(NamedTuple):
    """What an artifact is made of."""

    manifest: Manifest
    # by name, the manifest left out
    members: dict[str, Path]
    comparison: Comparison
    warnings: tuple[str, ...]
    compute_ms: dict[int, float]


def _as_graph(
    user: _User, options: Options, max_batch: int, folder: Path, on_step: OnStep
) -> _Made:
    """The model exported; raises NotExportable."""
    import deploy.model as models  # torch takes seconds to import
    from deploy.timing import time_runs

    model, hooks, code = user
    on_step("export")
    exported = models.export_model(model, max_batch)
    notes = () if code is None else unread_files(code, options.include)
    buckets = exported.row_buckets
    max_batch = buckets[-1] if buckets else max_batch
    on_step("compare")
    comparison = models.check(model, exported, sorted({1, min(2, max_batch), max_batch}))
    on_step("measure")
    activation_bytes = models.measure(model, exported, buckets or sorted({1, max_batch}))
    compute_ms = time_runs(model, exported, max_batch)
    on_step("pack")
    members, weight_bytes = _write_members(exported, folder)
    graph = exported.graph
    manifest = _manifest(
        model,
        hooks,
        options,
        architecture=graph.architecture,
        inputs=tuple(TensorSpec(*spec) for spec in graph.inputs),
        outputs=tuple(TensorSpec(*output.spec) for output in graph.outputs),
        weight_bytes=weight_bytes,
        activation_bytes=activation_bytes,
        operators_exported=exported.nodes_before,
        operators=exported.nodes_after,
        max_batch=max_batch,
        is_batchable=exported.batchable,
        row_buckets=buckets,
    )
    notes += exported.notes
    return _Made(manifest, members | dict(hooks.members), comparison, notes, compute_ms)


def _as_it_is(
    user: _User,
    code: UserCode,
    why: NotExportable,
    options: Options,
    max_batch: int,
    folder: Path,
    on_step: OnStep,
) -> _Made:
    """The model's source, and its weights; raises PackagingError with both reasons."""
    import deploy.eager as eagerly
    from fusion.weights import write_weights

    rows = sorted({1, min(2, max_batch), max_batch})
    on_step("measure")
    try:
        eager = eagerly.probe(user.model, rows)
        on_step("pack")
        index = write_weights(folder / WEIGHTS, eager.weights)
        members = source_files(code, options.include)
        on_step("compare")
        comparison = eagerly.compare_rebuilt(user.model, eager, members, folder / WEIGHTS, rows)
    except (PackagingError, FusionError) as error:
        detail = f"{why.detail.rstrip('.')}. Nor can it run eagerly: {error}"
        raise PackagingError(detail, **why.extensions) from error
    manifest = _manifest(
        user.model,
        user.hooks,
        options,
        architecture=hashlib.sha256(code.path.read_bytes()).hexdigest(),
        inputs=tuple(TensorSpec(*spec) for spec in eager.inputs),
        outputs=tuple(TensorSpec(*spec) for spec in eager.outputs),
        weight_bytes=index.data_bytes,
        activation_bytes=eager.activation_bytes,
        operators_exported=0,
        operators=0,
        max_batch=max_batch,
        is_batchable=eager.is_batchable,
        is_eager=True,
    )
    joined = "may be joined" if eager.is_batchable else "run one by one, never joined"
    cost = (
        f"an eager function is in no fused DAG and nothing optimises it; its own jobs {joined}; "
        f"forward took {eager.forward_ms:.3g} ms with 1 row here"
    )
    warnings = (f"runs eagerly, in a process of its own: {why.detail}", cost)
    members = members | {WEIGHTS: folder / WEIGHTS}
    return _Made(manifest, members, comparison, warnings, {1: eager.forward_ms})


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
def _loaded(source: Source, include: tuple[Path, ...]) -> Iterator[_User]:
    from deploy.model import from_handler, from_program

    if source.is_program:
        if include:
            raise PackagingError("--include: a .pt2 program has no hooks that could read files")
        yield _User(from_program(source.path), Hooks())
        return
    with imported(source.path) as code:
        hooks = find_hooks(code, include)
        yield _User(from_handler(code), hooks, code)


def _write_members(exported: Exported, folder: Path) -> tuple[dict[str, Path], int]:
    from fusion.weights import write_weights

    index = write_weights(folder / WEIGHTS, exported.weights)
    members = {WEIGHTS: folder / WEIGHTS}
    for name, graph in zip(graph_files(exported.row_buckets), exported.graphs, strict=True):
        members[name] = folder / name
        members[name].write_bytes(graph.encode())
    return members, index.data_bytes


def _manifest(model: Model, hooks: Hooks, options: Options, **found: Any) -> Manifest:
    manifest = Manifest(
        parameters=model.parameters,
        has_preprocess="preprocess" in hooks.names,
        has_postprocess="postprocess" in hooks.names,
        slo_ms=options.slo_ms,
        timeout_ms=options.timeout_ms,
        keep_alive_s=options.keep_alive_s,
        on_success=options.on_success,
        on_failure=options.on_failure,
        **found,
    )
    try:
        # the platform refuses what this refuses: better before the upload
        return Manifest.decode(manifest.encode())
    except InvalidArtifact as error:
        raise PackagingError(error.detail) from error


def _pack(name: str, folder: Path, made: _Made) -> Package:
    (folder / MANIFEST).write_bytes(made.manifest.encode())
    tar = folder / "artifact.tar"
    digest = write_tar(tar, made.members | {MANIFEST: folder / MANIFEST})
    return Package(
        name,
        tar,
        digest,
        tar.stat().st_size,
        made.manifest,
        made.comparison.absolute,
        made.comparison.relative,
        made.warnings,
        made.compute_ms,
    )
