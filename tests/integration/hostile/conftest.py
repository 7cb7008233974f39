"""A platform of real processes that hostile input is sent to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from bench._platform import Platform, running_platform
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from tests.integration.hostile import artifact_cases
from tests.integration.hostile.harness import Case, answer
from tests.unit.gateway.manifests import ECHO, weights_file


def picking_graph() -> Graph:
    """Rows of a table of eight by index: [rows] int64 to [rows, 4] float32."""
    node = Node("embedding", (Ref("weight", 0), Ref("input", 0)))
    return Graph(
        (TensorSpec("x", "int64", (None,)),),
        (WeightSpec("w", "float32", (8, 4)),),
        (node,),
        (Output(TensorSpec("y", "float32", (None, 4)), Ref("node", 0)),),
    )


def table() -> bytes:
    """The weights of `picking_graph`."""
    data = np.arange(32, dtype=np.float32).tobytes()
    header: dict[str, object] = {
        "__metadata__": {"sha256.w": hashlib.sha256(data).hexdigest()},
        "w": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, len(data)]},
    }
    return weights_file(header, data)


@pytest.fixture(scope="package")
def platform() -> Iterator[Platform]:
    """Real processes: a gateway with small limits, a scheduler, and a worker."""
    with running_platform(
        FUSEBOX_GATEWAYS="1",
        FUSEBOX_COMPUTE_THREADS="1",
        FUSEBOX_CLIENT_TIMEOUT_S="1",
        FUSEBOX_MAX_BODY="4MiB",
        FUSEBOX_MAX_ARTIFACT="8MB",
        FUSEBOX_MEMORY_BUDGET="256MB",
    ) as running:
        deploy(running, "echo", artifact_cases.artifact(ECHO, weights_file(), 16))
        deploy(running, "pick", artifact_cases.artifact(picking_graph(), table(), 128))
        running.wait_ready()
        yield running


def deploy(platform: Platform, name: str, artifact: bytes) -> None:
    """Deploy a sound artifact."""
    path = f"/v1/functions/{name}"
    reply = answer(platform, Case(name, artifact_cases.put(artifact, path), 201))
    assert reply.status == 201, reply
