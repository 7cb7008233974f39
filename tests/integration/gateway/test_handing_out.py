"""Artifacts on their way to other machines: from the gateway, and by way of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from flask.testing import FlaskClient

from contract.access import Scope
from contract.errors import ArtifactUnavailable
from contract.settings import Settings
from contract.store import Store
from gateway.access import scope_of
from gateway.app import create_app, gateway_of
from gateway.packed import MAX_LAYOUT_BYTES, Recorder
from gateway.tar import TarError
from tests.integration.gateway.builders import artifact, digest_header, pack
from workers.fetching.remote import Remote

DATA = pack(artifact())
DIGEST = hashlib.sha256(DATA).hexdigest()


def put(client: FlaskClient, name: str = "echo") -> Any:
    """Deploy the artifact."""
    headers = {"Content-Type": "application/x-tar", "Content-Digest": digest_header(DATA)}
    return client.put(f"/v1/functions/{name}", data=DATA, headers=headers)


@pytest.mark.parametrize("size", [1, 511, 512, 1000, 10**6])
def test_an_artifact_is_handed_out_byte_for_byte(client: FlaskClient, size: int) -> None:
    """Whole, and in ranges of any size; though it lies unpacked on the disk."""
    assert put(client).status_code == 201
    url = f"/v1/artifacts/{DIGEST}.tar"
    whole = client.get(url)
    assert (whole.status_code, whole.data) == (200, DATA)
    starts = range(0, min(len(DATA), 40 * size), size)
    parts = [
        client.get(url, headers={"Range": f"bytes={start}-{start + size - 1}"}) for start in starts
    ]
    assert {part.status_code for part in parts} == {206}
    assert b"".join(part.data for part in parts) == DATA[: 40 * size]
    assert parts[0].headers["Content-Range"] == f"bytes 0-{min(size, len(DATA)) - 1}/{len(DATA)}"
    assert client.get(url, headers={"Range": f"bytes={len(DATA)}-"}).status_code == 416
    assert client.head(url).headers["Content-Length"] == str(len(DATA))


@pytest.mark.parametrize("name", [f"{'0' * 64}.tar", "0.tar", DIGEST, f"..%2f{DIGEST}.tar"])
def test_what_is_no_artifact_is_not_found(client: FlaskClient, name: str) -> None:
    """A problem document."""
    answer = client.get(f"/v1/artifacts/{name}")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_only_who_may_deploy_may_read_models() -> None:
    """A key for calls does not."""
    assert scope_of("GET", f"/v1/artifacts/{DIGEST}.tar") is Scope.DEPLOY


def test_an_artifact_of_an_earlier_version_of_the_platform_says_what_to_do(
    client: FlaskClient, settings: Settings
) -> None:
    """It has no layout from which its tar could be made."""
    put(client)
    (settings.artifacts / DIGEST / "layout").unlink()
    answer = client.get(f"/v1/artifacts/{DIGEST}.tar")
    assert (answer.status_code, "deploy it again" in answer.json["detail"]) == (404, True)


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store: a folder, or a bucket of an S3-compatible server."""
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environ.setenv("AWS_ACCESS_KEY_ID", "test")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environ.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="models")
        yield "s3://models/artifacts"
    server.stop()
    # kept by URL and options, not by what the environment says
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.filterwarnings("ignore")
def test_deployed_artifacts_reach_workers_by_way_of_a_store(
    settings: Settings, store: Store, url: str, tmp_path: Path
) -> None:
    """Put there by the gateway, fetched and checked by a worker, removed with the function."""
    app = create_app(replace(settings, artifacts_url=url), store)
    client = app.test_client()
    try:
        assert put(client).status_code == 201
        remote = Remote(url, "")
        size_bytes = remote.size_bytes(DIGEST)
        assert size_bytes == len(DATA)
        remote.fetch(DIGEST, size_bytes, tmp_path / "tar")
        assert (tmp_path / "tar").read_bytes() == DATA
        assert put(client, "other").status_code == 201
        client.delete("/v1/functions/echo")
        assert Remote(url, "").size_bytes(DIGEST) == len(DATA)
        client.delete("/v1/functions/other")
        with pytest.raises(ArtifactUnavailable, match="there is none"):
            Remote(url, "").size_bytes(DIGEST)
    finally:
        gateway_of(app).replies.close()


def test_nothing_is_deployed_that_no_worker_could_fetch(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """The store is a file where a folder should be."""
    (tmp_path / "store").touch()
    app = create_app(replace(settings, artifacts_url=f"file://{tmp_path}/store"), store)
    try:
        answer = put(app.test_client())
        assert (answer.status_code, answer.json["code"]) == (503, "artifact_unavailable")
        assert app.test_client().get("/v1/functions/echo").status_code == 404
        assert [*(settings.artifacts / ".incoming").iterdir()] == []
    finally:
        gateway_of(app).replies.close()


def test_bytes_that_are_in_no_file_are_bounded() -> None:
    """They are kept in memory and beside the files."""
    recorder = Recorder(bytes)
    with recorder.inside("weights.safetensors", 10**8):
        recorder.read(10**8)
    recorder.read(MAX_LAYOUT_BYTES // 2)
    with pytest.raises(TarError, match="in no file"):
        recorder.read(MAX_LAYOUT_BYTES)
