"""What OpenFaaS clients ask of the system: which functions there are, and what this is."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from contract.function import Function, FunctionRef
from contract.job import SETTLED
from gateway.answer import Answer, json_answer, rfc3339
from gateway.context import Gateway
from gateway.openfaas.names import NAMESPACE, check_namespace, parse_name


def show_all(gateway: Gateway, namespace: str) -> Answer:
    """GET /system/functions: the latest version of each."""
    check_namespace(namespace)
    functions = gateway.store.functions.all()
    stats = gateway.store.telemetry.stats([function.name for function in functions])
    workers = _workers(gateway)
    return json_answer([_status(f, stats[f.name], workers) for f in functions])


def show(gateway: Gateway, name: str, namespace: str) -> Answer:
    """GET /system/function/<name>."""
    check_namespace(namespace)
    function = gateway.store.functions.get(parse_name(name))
    stats = gateway.store.telemetry.stats([function.name])
    return json_answer(_status(function, stats[function.name], _workers(gateway)))


def info() -> Answer:
    """GET /system/info."""
    try:
        release = version("fusebox")
    except PackageNotFoundError:
        # it runs from its sources, without being installed
        release = "unknown"
    about = {"sha": "", "release": release}
    provider = {"provider": "fusebox", "orchestration": "fusebox", "version": about}
    return json_answer({"provider": provider, "version": about, "arch": platform.machine()})


def namespaces() -> Answer:
    """GET /system/namespaces: the one that all functions are in."""
    return json_answer([NAMESPACE])


def _workers(gateway: Gateway) -> int:
    return sum(not worker.is_draining for worker in gateway.store.workers.all())


def _status(function: Function, stats: Mapping[str, int], workers: int) -> dict[str, Any]:
    """A FunctionStatus: every worker runs every function, so each is a replica."""
    return {
        "name": function.name,
        "image": f"{FunctionRef(function.name)}@sha256:{function.digest}",
        "namespace": NAMESPACE,
        "invocationCount": sum(stats.get(f"jobs:{status}", 0) for status in SETTLED),
        "replicas": workers,
        "availableReplicas": workers,
        "createdAt": rfc3339(function.created_at_s),
        "labels": {"fusebox.version": str(function.version)},
        "annotations": {},
    }
