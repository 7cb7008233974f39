"""The disk of artifacts is full, or what lies there is broken."""

from __future__ import annotations

import base64
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from contract.function import GRAPH, WEIGHTS
from deploy.options import Options
from deploy.package import Package, package
from tests.e2e.faults.conftest import Cluster, RunTrial
from tests.e2e.faults.functions import deploy_source

WEIGHTED = """
import torch


def load():
    return torch.nn.Linear(64, 1)


def example_inputs():
    return {"x": torch.zeros(2, 64)}
"""


def test_a_deployment_to_a_full_disk_is_refused_and_leaves_nothing(
    cluster: Cluster, trial: RunTrial, tmp_path: Path
) -> None:
    """507; calls go on meanwhile, and the same deployment succeeds when there is room."""
    made = package_weighted(tmp_path, "fills")
    before = stored(cluster)
    with trial("no room for artifacts") as fault:
        with no_room_for_files(cluster.gateways, limit_bytes=4096):
            answer = put(cluster, made)
            assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
            assert stored(cluster) == before
            gone = requests.get(f"{cluster.platform.url}/v1/functions/{made.name}", timeout=10)
            assert gone.status_code == 404
        fault.strike()
        assert put(cluster, made).status_code == 201


@pytest.mark.parametrize("damage", ["no graph", "graph of noise", "weights cut short"])
def test_a_broken_artifact_fails_its_own_function_only(
    cluster: Cluster, trial: RunTrial, tmp_path: Path, damage: str
) -> None:
    """Its callers get a reason, everybody else their answers, also in the same group."""
    name = damage.replace(" ", "-")
    digest = deploy_source(cluster.platform.url, tmp_path, name, WEIGHTED)
    with trial(f"a broken artifact: {damage}") as fault:
        fault.strike()
        break_artifact(cluster.platform.data / "artifacts" / digest, damage)
        for _ in range(4):
            answer = requests.post(
                f"{cluster.platform.url}/v1/functions/{name}/invoke",
                json={"inputs": {"x": [[1.0] * 64]}},
                timeout=60,
            )
            assert answer.status_code == 500, answer.text
            assert answer.json()["code"] == "function_failed"
    assert requests.delete(f"{cluster.platform.url}/v1/functions/{name}", timeout=10).ok


def break_artifact(folder: Path, damage: str) -> None:
    """Damage a stored artifact."""
    match damage:
        case "no graph":
            (folder / GRAPH).unlink()
        case "graph of noise":
            (folder / GRAPH).write_bytes(b"\0\xff" * 512)
        case "weights cut short":
            with (folder / WEIGHTS).open("r+b") as weights:
                weights.truncate(4096)


def package_weighted(folder: Path, name: str) -> Package:
    """An artifact whose files are larger than a page."""
    home = folder / name
    home.mkdir()
    (home / "handler.py").write_text(WEIGHTED)
    return package(home, Options(name=name), home, lambda _step: None)


def put(cluster: Cluster, made: Package) -> requests.Response:
    """Deploy, and give the answer as it is."""
    encoded = base64.b64encode(bytes.fromhex(made.digest)).decode()
    with made.tar.open("rb") as tar:
        return requests.put(
            f"{cluster.platform.url}/v1/functions/{made.name}",
            data=tar,
            headers={
                "Content-Digest": f"sha-256=:{encoded}:",
                "Content-Type": "application/x-tar",
            },
            timeout=60,
        )


def stored(cluster: Cluster) -> set[Path]:
    """Every file and folder of the artifact store."""
    return set((cluster.platform.data / "artifacts").rglob("*"))


@contextmanager
def no_room_for_files(pids: list[int], limit_bytes: int) -> Iterator[None]:
    """The processes can write no file beyond the limit, as on a disk or a quota that is full."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
