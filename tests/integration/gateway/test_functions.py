"""Functions: deployed, described, removed, over a real store and a real folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.acceptance import ACCEPTED, is_as_accepted
from contract.function import GRAPH, WEIGHTS
from contract.settings import Settings
from contract.store import Store
from contract.store.telemetry import LogLine
from contract.store.workers import BlocksReport
from fusion.ir import Graph, Node, Ref
from fusion.slots import ARENA_SHARE
from fusion.weights import read_index
from gateway import budgets
from gateway.artifacts import ABANDONED_S, Artifacts
from gateway.packed import LAYOUT
from tests.integration.gateway.builders import artifact, digest_header, pack, publish, report
from tests.unit.gateway.manifests import ECHO, MANIFEST, WITH_HOOKS, weights_file


def put(client: FlaskClient, data: bytes, name: str = "echo", **headers: str) -> TestResponse:
    """Upload an artifact."""
    sent = {"Content-Type": "application/x-tar", "Content-Digest": digest_header(data)}
    changed = {key.replace("_", "-"): value for key, value in headers.items()}
    return client.put(f"/v1/functions/{name}", data=data, headers=sent | changed)


def static(is_batchable: bool = True, **changed: object) -> dict[str, bytes]:
    """An artifact of static graphs for 2 and 4 rows; `changed` are keys of the second graph."""
    two, four = (replace(ECHO, fixed_rows=rows, batchable=is_batchable) for rows in (2, 4))
    manifest = replace(
        MANIFEST,
        architecture=two.architecture,
        max_batch=4,
        is_batchable=is_batchable,
        row_buckets=(2, 4),
    )
    second = replace(four, **changed).encode()  # type: ignore[arg-type]  # as tests name them
    return artifact(manifest, graph__json=two.encode()) | {"graph.4.json": second}


def stored(settings: Settings) -> set[str]:
    """What lies in the artifact store, uploads under way included."""
    incoming = settings.artifacts / ".incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    found = {path.name for path in settings.artifacts.iterdir()} - {".incoming"}
    return found | {path.name for path in incoming.iterdir()}


def test_static_graphs_are_checked_one_by_one(client: FlaskClient) -> None:
    """Each has the rows of its bucket, the specs of the manifest, and its word on joining."""
    answer = put(client, pack(static()))
    assert (answer.status_code, answer.json["row_buckets"]) == (201, [2, 4])
    for changed, about in (
        ({"fixed_rows": 8}, "row_buckets"),
        ({"fixed_rows": None}, "row_buckets"),
        ({"batchable": False}, "is_batchable"),
        ({"inputs": (ECHO.inputs[0]._replace(name="z"),)}, "inputs"),
        ({"weights": (ECHO.weights[0]._replace(shape=(5,)),)}, "'w'"),
    ):
        refused = put(client, pack(static(**changed)))
        assert refused.status_code == 422
        assert about in refused.json["detail"]
    del (members := static())["graph.4.json"]
    assert put(client, pack(members)).json["detail"] == "graph.4.json: missing"


def eager() -> dict[str, bytes]:
    """An artifact of a function that runs eagerly."""
    source = b"def load(): ..."
    digest = hashlib.sha256(source).hexdigest()
    manifest = replace(MANIFEST, is_eager=True, architecture=digest)
    return artifact(manifest, graph__json=None) | {"handler.py": source}


def test_an_eager_function_has_no_graph(client: FlaskClient) -> None:
    """Its source and its weights are enough; who asks for a graph is told why there is none."""
    answer = put(client, pack(eager()))
    assert (answer.status_code, answer.json["is_eager"]) == (201, True)
    refused = client.get("/v1/functions/echo/graph")
    said = "echo@1 runs eagerly: it has no graph and is in no fused DAG"
    assert (refused.status_code, refused.json["detail"]) == (404, said)
    with_graph = eager() | {"graph.json": ECHO.encode()}
    assert "graph.json" in put(client, pack(with_graph)).json["detail"]


def test_rows_that_static_graphs_do_not_take_are_refused_at_submission(
    client: FlaskClient,
) -> None:
    """With the numbers that are allowed."""
    assert put(client, pack(static(is_batchable=False))).status_code == 201
    answer = client.post("/v1/functions/echo/invoke", json={"inputs": {"x": [[0] * 4] * 3}})
    assert answer.status_code == 422
    assert answer.json["detail"] == "inputs.x: expected 2 or 4 rows, got 3 rows"


def test_an_artifact_becomes_the_next_version(
    client: FlaskClient, store: Store, settings: Settings
) -> None:
    """201 with Location; its files lie under its digest."""
    members = artifact(WITH_HOOKS) | {"files/words/a.txt": b"hello"}
    answer = put(client, pack(members))
    assert (answer.status_code, answer.headers["Location"]) == (201, "/v1/functions/echo@1")
    assert tuple(answer.json[key] for key in ("version", "tier", "architecture")) == (
        1,
        "disk",
        ECHO.architecture,
    )
    folder = settings.artifacts / answer.json["digest"]
    assert members == {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (ACCEPTED, LAYOUT)
    }
    # every digest was compared: workers need not hash it again
    assert is_as_accepted(folder / WEIGHTS)
    assert put(client, pack(artifact())).json["version"] == 2
    assert client.get("/v1/functions/echo").json["versions"] == [1, 2]
    assert client.get("/v1/functions/echo@1").json["has_preprocess"] is True


def test_the_same_artifact_is_stored_once(
    client: FlaskClient, store: Store, settings: Settings
) -> None:
    """Two names, two versions, one folder."""
    data = pack(artifact())
    digests = {put(client, data, name).json["digest"] for name in ("a", "b", "a")}
    assert digests == stored(settings)


def test_functions_are_listed_by_name_with_their_tier(client: FlaskClient, store: Store) -> None:
    """The latest version of each, and where its weights are."""
    for name in ("kept", "echo", "cold"):
        publish(store, name)
    store.workers.report(report(), 60, is_news=False)
    listed = client.get("/v1/functions").json["functions"]
    assert [(function["name"], function["tier"]) for function in listed] == [
        ("cold", "disk"),
        ("echo", "device"),
        ("kept", "host"),
    ]


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"manifest__json": None}, 422, "invalid_artifact"),
        ({"manifest__json": b"{}"}, 422, "invalid_artifact"),
        ({"graph__json": b"["}, 422, "invalid_artifact"),
        ({"graph__json": b"[]"}, 422, "invalid_artifact"),
        ({"weights__safetensors": None}, 422, "invalid_artifact"),
        ({"weights__safetensors": b"1234567"}, 422, "invalid_artifact"),
        ({"weights__safetensors": b"\xff" * 8}, 422, "invalid_artifact"),
        ({"weights__safetensors": b"\2" + bytes(7) + b"[]"}, 422, "invalid_artifact"),
        ({"weights__safetensors": b"\x08" + bytes(7) + b'{"a":[]}'}, 422, "invalid_artifact"),
        ({"extra": b""}, 422, "invalid_artifact"),
        ({"../up": b""}, 422, "invalid_artifact"),
        ({"/etc/passwd": b""}, 422, "invalid_artifact"),
        ({"files/../../up": b""}, 422, "invalid_artifact"),
        ({"files/a": b"", "files/a/b": b""}, 422, "invalid_artifact"),
        ({"files/" + "x" * 300: b""}, 422, "invalid_artifact"),
        ({"files/big": bytes(1_000_001)}, 413, "payload_too_large"),
    ],
)
def test_a_hostile_artifact_is_bad_input(
    client: FlaskClient,
    store: Store,
    settings: Settings,
    changed: dict[str, Any],
    status: int,
    code: str,
) -> None:
    """It is refused by name, and nothing of it stays."""
    answer = put(client, pack(artifact(**changed)))
    assert (status, code) == (answer.status_code, answer.json["code"])
    assert set() == stored(settings)
    assert client.get("/v1/functions").json["functions"] == []


@pytest.mark.parametrize("offsets", [[0, 8], [0, 17], [8, 4], [0], "0", [0, 2**62], [-16, 0]])
def test_weights_lie_inside_their_file(client: FlaskClient, store: Store, offsets: object) -> None:
    """A header cannot point outside of the data, nor disagree with its shape."""
    weights = weights_file({"w": {"dtype": "F32", "shape": [4], "data_offsets": offsets}})
    answer = put(client, pack(artifact(weights__safetensors=weights)))
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_artifact")
    assert "weights.safetensors" in answer.json["detail"]


def test_hooks_need_a_handler(client: FlaskClient, store: Store) -> None:
    """The manifest says that there is one."""
    answer = put(client, pack(artifact(WITH_HOOKS, handler__py=None)))
    assert "handler.py" in answer.json["detail"]


def test_a_digest_that_differs_is_refused(client: FlaskClient, store: Store) -> None:
    """400, with both digests."""
    answer = put(client, pack(artifact()), Content_Digest=digest_header(b"another"))
    assert (answer.status_code, answer.json["code"]) == (400, "digest_mismatch")
    assert answer.json["expected"] != answer.json["actual"]


@pytest.mark.parametrize("header", ["", "sha-256=:x:", "sha-512=:AAAA:", "sha-256=AAAA"])
def test_a_digest_is_required(client: FlaskClient, store: Store, header: str) -> None:
    """A broken upload must never become a version."""
    answer = put(client, pack(artifact()), Content_Digest=header)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("name", "content_type", "status", "code"),
    [
        ("echo@3", "application/x-tar", 400, "bad_request"),
        ("No", "application/x-tar", 404, "unknown_function"),
        ("echo", "application/gzip", 415, "unsupported_media_type"),
    ],
)
def test_an_upload_names_a_function_and_is_a_tar(
    client: FlaskClient, store: Store, name: str, content_type: str, status: int, code: str
) -> None:
    """The platform numbers versions, and names are lower case."""
    answer = put(client, pack(artifact()), name, Content_Type=content_type)
    assert (status, code) == (answer.status_code, answer.json["code"])


def test_a_removed_function_is_gone_with_its_artifact(
    client: FlaskClient, store: Store, settings: Settings
) -> None:
    """What another function uses stays."""
    shared = put(client, pack(artifact())).json["digest"]
    put(client, pack(artifact()), "other")
    put(client, pack(artifact(WITH_HOOKS)))
    answer = client.delete("/v1/functions/echo")
    assert answer.json == {"name": "echo", "removed_versions": [1, 2]}
    assert {shared} == stored(settings)
    for method in ("GET", "DELETE"):
        assert client.open("/v1/functions/echo", method=method).status_code == 404


def test_an_artifact_stays_while_a_job_needs_it(
    client: FlaskClient, store: Store, settings: Settings
) -> None:
    """Accepted jobs finish on the version they were accepted for; then a sweep takes it."""
    digest = put(client, pack(artifact())).json["digest"]
    body = {"inputs": {"x": [[1, 2, 3, 4]]}}
    headers = {"Prefer": "respond-async"}
    job = client.post("/v1/functions/echo/invoke", json=body, headers=headers).json["job"]
    client.delete("/v1/functions/echo@1")
    assert {digest} == stored(settings)
    client.delete(f"/v1/jobs/{job}")
    assert [digest] == Artifacts(settings.artifacts, 0).sweep(store.functions.digests)
    assert set() == stored(settings)


def test_a_sweep_leaves_alone_what_is_arriving(tmp_path: Path) -> None:
    """An upload of the very artifact that is being removed is published all the same."""
    artifacts = Artifacts(tmp_path, 10**6)
    data = pack(artifact())
    digest = hashlib.sha256(data).hexdigest()
    published: set[str] = set()

    def upload() -> None:
        with artifacts.receive(io.BytesIO(data).read, digest) as manifest:
            assert manifest == MANIFEST
            published.add(digest)

    upload()
    published.clear()
    asked: list[set[str]] = []

    def needed() -> set[str]:
        asked.append(set(published))
        if len(asked) == 1:
            # it arrives after the sweep has looked
            thread = threading.Thread(target=upload)
            thread.start()
            thread.join()
            return set()
        return set(published)

    assert artifacts.sweep(needed) == []
    assert (tmp_path / digest / "manifest.json").is_file()


def test_a_sweep_removes_what_a_crash_left_behind(tmp_path: Path) -> None:
    """Uploads take less than a day."""
    old, new = tmp_path / ".incoming" / "a.1", tmp_path / ".incoming" / "b.2"
    for folder in (old, new):
        folder.mkdir(parents=True)
    before_s = time.time() - ABANDONED_S - 1
    os.utime(old, (before_s, before_s))
    Artifacts(tmp_path, 0).sweep(set)
    assert [new] == list((tmp_path / ".incoming").iterdir())


def test_a_graph_is_shown_with_the_hashes_of_its_weights(
    client: FlaskClient, settings: Settings
) -> None:
    """As it was deployed; a broken artifact is a 500 that names the function."""
    put(client, pack(artifact()))
    shown = client.get("/v1/functions/echo/graph").json
    assert Graph.decode(json.dumps(shown["graph"]).encode()) == ECHO
    assert (shown["name"], shown["version"], shown["architecture"]) == (
        "echo", 1, ECHO.architecture,
    )  # fmt: skip
    folder = settings.artifacts / client.get("/v1/functions/echo").json["digest"]
    index = read_index(folder / WEIGHTS)
    assert shown["weights"] == {entry.name: entry.sha256 for entry in index.entries}
    (folder / GRAPH).write_bytes(b"{")
    answer = client.get("/v1/functions/echo/graph")
    assert (answer.status_code, answer.json["code"]) == (500, "function_failed")
    assert "echo@1" in answer.json["detail"]
    assert client.get("/v1/functions/nope/graph").status_code == 404


def test_a_log_is_shown_oldest_first(client: FlaskClient, store: Store) -> None:
    """With its version, its job and the moment."""
    publish(store)
    assert client.get("/v1/functions/echo/logs").json == {"lines": []}
    for i in range(3):
        store.telemetry.write_log("echo", LogLine(1000.5 + i, i, "j", "error", f"line {i}"))
    url = "/v1/functions/echo/logs"
    assert [line["text"] for line in client.get(f"{url}?count=2").json["lines"]] == [
        "line 1",
        "line 2",
    ]
    assert client.get("/v1/functions/echo@1/logs").json["lines"] == [
        {
            "at": "1970-01-01T00:16:41.500Z",
            "version": 1,
            "job": "j",
            "level": "error",
            "text": "line 1",
        }
    ]
    assert client.get(f"{url}?since={time.time() + 100}").json["lines"] == []
    assert client.get("/v1/functions/nope/logs").status_code == 404
    assert client.get(f"{url}?count=0").json["field"] == "count"


def test_a_description_says_how_the_function_runs(client: FlaskClient, store: Store) -> None:
    """Milliseconds by rows and tier, and of the groups that it was in, not of others'."""
    publish(store, "echo", MANIFEST)
    assert client.get("/v1/functions/echo").json["execution"] == {
        "tiers": {}, "groups": {}, "threads": 1, "row_ceiling": None,
    }  # fmt: skip
    ours, others = "echo@1 x2 + other@1 x1", "echo@11 x1 + other@1 x1"
    times, lanes = {"serial": 2.0, "branches": 1.0}, [["echo@1"], ["other@1"]]
    tiers = {"1": {"generated": 0.2, "compiled": 0.1}}
    store.workers.report(
        report(
            strategies={ours: "branches", others: "serial"},
            measured={ours: times, others: times},
            tiers={"echo@1": tiers, "echo@11": {}},
            lanes={ours: lanes},
            threads=2,
            row_ceilings={MANIFEST.architecture: 4, "another": 1},
        ),
        10.0,
        is_news=False,
    )
    assert client.get("/v1/functions/echo").json["execution"] == {
        "tiers": tiers,
        "groups": {ours: {"strategy": "branches", "measured_ms": times, "lanes": lanes}},
        "threads": 2,
        "row_ceiling": 4,
    }


def test_a_version_with_the_same_weights_stores_them_once(
    client: FlaskClient, settings: Settings
) -> None:
    """The file is one, and stays for the version that is left."""
    put(client, pack(artifact()))
    first = settings.artifacts / client.get("/v1/functions/echo").json["digest"] / WEIGHTS
    put(client, pack(artifact(replace(MANIFEST, keep_alive_s=9.0))), "other")
    second = settings.artifacts / client.get("/v1/functions/other").json["digest"] / WEIGHTS
    assert first != second
    assert first.samefile(second)
    assert first.stat().st_nlink == 2


def large(weight_bytes: int, is_read: bool) -> dict[str, bytes]:
    """An artifact of one weight, that no step could split, or that none reads."""
    data = bytes(weight_bytes)
    digest = hashlib.sha256(data).hexdigest()
    shape = (weight_bytes // 4,)
    field = {"dtype": "F32", "shape": [*shape], "data_offsets": [0, weight_bytes]}
    file = weights_file({"__metadata__": {"sha256.w": digest}, "w": field}, data)
    graph = replace(ECHO, weights=(ECHO.weights[0]._replace(shape=shape),))
    if is_read:
        total = Node("sum", (Ref("weight", 0),))
        added = Node("add.Tensor", (Ref("input", 0), Ref("node", 0)))
        out = (ECHO.outputs[0]._replace(value=Ref("node", 1)),)
        graph = replace(graph, nodes=(total, added), outputs=out)
    manifest = replace(MANIFEST, architecture=graph.architecture, weight_bytes=weight_bytes)
    return artifact(manifest, graph__json=graph.encode(), weights__safetensors=file)


LARGE = 600_000
ROW = MANIFEST.activation_bytes_at(1)


def test_the_gateway_knows_what_of_a_gpu_is_for_weights() -> None:
    """It imports no torch, and so not the constant of the slots."""
    assert budgets.ARENA_SHARE == ARENA_SHARE


def test_what_no_worker_can_run_is_refused_with_the_bytes_it_would_need(
    client: FlaskClient, store: Store, settings: Settings
) -> None:
    """Not even in blocks. Nothing of it stays."""
    data = pack(large(LARGE, is_read=True))
    for device, room in (("cpu", LARGE), ("cuda:0", int(LARGE * ARENA_SHARE))):
        store.workers.report(report(device=device, budget_bytes=LARGE), 10.0, is_news=False)
        refused = put(client, data)
        assert (refused.status_code, refused.json["code"]) == (507, "out_of_memory")
        found = (refused.json["needed_bytes"], refused.json["budget_bytes"])
        assert (found, stored(settings)) == ((LARGE + ROW, room), set())
    store.workers.report(report(budget_bytes=LARGE + ROW), 10.0, is_news=False)
    assert put(client, data).status_code == 201


def test_who_deploys_is_told_the_budget_of_what_will_run_in_blocks(
    client: FlaskClient, store: Store
) -> None:
    """And afterwards the plan of the worker that has made one."""
    data, half = pack(large(LARGE, is_read=False)), LARGE // 2
    store.workers.report(report(budget_bytes=half), 10.0, is_news=False)
    assert put(client, data).json["blocks_budget_bytes"] == half
    plan = BlocksReport([4096, 8192], 12288, 0)
    store.workers.report(report(budget_bytes=half, blocks={"echo@1": plan}), 10.0, is_news=False)
    assert client.get("/v1/functions/echo").json["execution"]["blocks"] == asdict(plan)
    store.workers.report(report(budget_bytes=2 * LARGE), 10.0, is_news=False)
    assert "blocks_budget_bytes" not in put(client, data).json
