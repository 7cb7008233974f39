"""Functions: deployed, listed, described, logged, removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from contract.aliases import Alias
from contract.errors import RequestError, UnknownFunction, UnsupportedMediaType
from contract.function import Function, FunctionRef, Manifest
from contract.log import Log
from contract.probe import parse_probe
from contract.store.telemetry import LOG_LINES
from gateway.aliases import weights
from gateway.answer import Answer, json_answer, rfc3339
from gateway.artifacts import parse_content_digest
from gateway.budgets import budget_for_blocks, check_budgets
from gateway.context import Gateway
from gateway.overview import execution, tier
from gateway.query import query_number
from gateway.tar import Read

log = Log("gateway")
TAR = "application/x-tar"


class Upload(NamedTuple):
    """What a deployment says of its body, as it came."""

    content_type: str
    content_digest: str
    # contract.probe.HEADER
    compute_ms: str


def deploy(gateway: Gateway, name: str, upload: Upload, read: Read) -> Answer:
    """PUT /v1/functions/<name>: store the artifact and make it the latest version."""
    ref = FunctionRef.parse(name)
    if not ref.is_latest:
        raise RequestError(f"function: expected NAME, got {name!r}; the platform numbers versions")
    content_type = upload.content_type
    if content_type.partition(";")[0].strip().lower() != TAR:
        raise UnsupportedMediaType(
            f"Content-Type: expected {TAR}, got {content_type[:200]!r}", accepted=[TAR]
        )
    digest = parse_content_digest(upload.content_digest)
    compute_ms = parse_probe(upload.compute_ms)
    workers = gateway.store.workers.all()

    def accept(folder: Path, manifest: Manifest) -> None:
        check_budgets(folder, manifest, workers)

    with gateway.artifacts.receive(read, digest, accept) as manifest:
        function = gateway.store.functions.publish(ref.name, digest, manifest, compute_ms)
    gateway.lookup.forget(ref)
    log.info("deployed", function=function.ref, digest=digest)
    location = ("Location", f"/v1/functions/{function.ref}")
    return json_answer(_describe(gateway, function), 201, [location])


def show_all(gateway: Gateway) -> Answer:
    """GET /v1/functions: the latest version of each."""
    workers = gateway.store.workers.all()
    functions = gateway.store.functions.all()
    pointed = gateway.store.aliases.of_all(function.name for function in functions)
    return json_answer({"functions": [_record(function, tier(function, workers))
                                      | _aliases(pointed[function.name])
                                      for function in functions]})  # fmt: skip


def show(gateway: Gateway, name: str) -> Answer:
    """GET /v1/functions/<name>: one version and the numbers of all."""
    return json_answer(_describe(gateway, gateway.store.functions.get(FunctionRef.parse(name))))


def show_graph(gateway: Gateway, name: str) -> Answer:
    """GET /v1/functions/<name>/graph: its operators, and the content hashes of its weights."""
    function = gateway.store.functions.get(FunctionRef.parse(name))
    graph, weights = gateway.artifacts.read_graph(function)
    return json_answer(
        {
            "name": function.name,
            "version": function.version,
            "architecture": function.manifest.architecture,
            "graph": graph,
            "weights": weights,
        }
    )


def remove(gateway: Gateway, name: str) -> Answer:
    """DELETE /v1/functions/<name>: jobs already accepted still run."""
    ref = FunctionRef.parse(name)
    if ref.alias:
        raise RequestError(
            f"function: expected NAME or NAME@VERSION, got {name!r}; an alias is removed at "
            f"/v1/functions/{ref.name}/aliases/{ref.alias}"
        )
    versions = gateway.store.functions.retire(ref)
    gateway.lookup.forget(ref)
    gateway.artifacts.sweep(gateway.store.functions.digests)
    log.info("removed", function=ref, versions=versions)
    return json_answer({"name": ref.name, "removed_versions": versions})


def show_log(gateway: Gateway, name: str, count: str, since: str) -> Answer:
    """GET /v1/functions/<name>/logs: what its own code printed and raised, oldest first."""
    ref = FunctionRef.parse(name)
    shown = {ref.version}
    if ref.alias:
        alias = gateway.store.aliases.get(ref.name, ref.alias)
        shown = {version for version, _ in alias.versions}
    lines = gateway.store.telemetry.read_log(
        ref.name,
        int(query_number("count", count, 1, LOG_LINES)),
        query_number("since", since, 0, 1e11),
    )
    if not lines:
        gateway.store.functions.get(ref)
    return json_answer(
        {
            "lines": [
                {
                    "at": rfc3339(line.at_s),
                    "version": line.version,
                    "job": line.job,
                    "level": line.level,
                    "text": line.text,
                }
                for line in lines
                if ref.is_latest or line.version in shown
            ]
        }
    )


def _describe(gateway: Gateway, function: Function) -> dict[str, Any]:
    workers = gateway.store.workers.all()
    record = _record(function, tier(function, workers))
    try:
        versions = gateway.store.functions.versions(function.name)
        pointed = _aliases(gateway.store.aliases.of(function.name))
    except UnknownFunction:
        versions, pointed = [], _aliases({})  # removed since it was read
    budget_bytes = budget_for_blocks(function.manifest, workers)
    in_blocks = {} if budget_bytes is None else {"blocks_budget_bytes": budget_bytes}
    more = {"versions": versions, "execution": execution(function, workers)}
    return record | pointed | more | in_blocks


def _aliases(pointed: Mapping[str, Alias]) -> dict[str, Any]:
    return {"aliases": {name: weights(alias) for name, alias in pointed.items()}}


def _record(function: Function, place: str) -> dict[str, Any]:
    return {
        "name": function.name,
        "version": function.version,
        "tier": place,
        "created_at": rfc3339(function.created_at_s),
        "digest": function.digest,
        **function.manifest.as_json(),
    }
