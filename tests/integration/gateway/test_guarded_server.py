"""A guarded gateway as a process: gunicorn, gevent and keys, over a real store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import orjson
import pytest
import requests

from contract.access import Scope, Wish, mint
from contract.errors import ArtifactUnavailable
from contract.store import Store
from tests.integration.gateway.builders import FakeWorker, artifact, digest_header, pack, publish
from tests.integration.gateway.test_server import BODY, INVOKE, JSON, Gateway, running_gateway
from workers.fetching.remote import Remote

# what the processes do does not depend on the kind of server
pytestmark = pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)
DUPLICATES = 50
FORWARDED = {
    "Forwarded": "for=192.0.2.1;proto=https;host=example.org",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "example.org",
    "X-Forwarded-Prefix": "/prefix",
    "X-Real-IP": "127.0.0.1",
}


@pytest.fixture
def guarded(redis_url: str, store: Store, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of two processes that asks for keys."""
    publish(store)
    settings = {"FUSEBOX_AUTH": "on", "FUSEBOX_GATEWAYS": "2"}
    with running_gateway(redis_url, tmp_path, **settings) as running:
        yield running


def test_a_refusal_leaves_the_connection_good_for_the_next_request(
    guarded: Gateway, store: Store, worker: FakeWorker
) -> None:
    """A body that nobody reads is not taken for a request; forwarded headers change nothing."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    bearer = {"Authorization": f"Bearer {token.text}"}
    with guarded.connect() as client:
        for headers, expected in [
            (JSON, (401, None)),
            (JSON | FORWARDED, (401, None)),
            (JSON | bearer, (200, None)),
            (JSON | {"Authorization": "Bearer x"}, (401, None)),
            (JSON | bearer | FORWARDED | {"Prefer": "respond-async"}, (202, "/v1/jobs/")),
        ]:
            client.request("POST", INVOKE, BODY, headers)
            answer = client.getresponse()
            job = orjson.loads(answer.read()).get("job", "")
            location = answer.getheader("Location")
            assert (answer.status, location and location.removesuffix(job)) == expected


def test_duplicates_over_two_processes_are_one_job(
    guarded: Gateway, store: Store, worker: FakeWorker
) -> None:
    """Each over a connection of its own, all at once."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    headers = JSON | {"Authorization": f"Bearer {token.text}", "Idempotency-Key": '"once"'}
    start = Barrier(DUPLICATES)

    def ask(_: int) -> tuple[int, bytes]:
        with guarded.connect() as client:
            client.connect()
            start.wait(60)
            client.request("POST", INVOKE, BODY, headers)
            answer = client.getresponse()
            return answer.status, answer.read()

    with ThreadPoolExecutor(DUPLICATES) as pool:
        answers = list(pool.map(ask, range(DUPLICATES)))
    [(status, _)] = set(answers)
    assert (status, len(answers)) == (200, DUPLICATES)
    assert store.telemetry.conservation().accepted == 1


def test_artifacts_are_fetched_with_a_key_that_may_deploy(
    guarded: Gateway, store: Store, tmp_path: Path
) -> None:
    """By the very client of the workers; others are refused at once."""
    data = pack(artifact())
    digest = hashlib.sha256(data).hexdigest()
    tokens = {}
    for scope in (Scope.DEPLOY, Scope.INVOKE):
        key, tokens[scope] = mint(Wish(scopes=(scope,)))
        store.api_keys.add(key)
    url = f"http://127.0.0.1:{guarded.port}/v1"
    deployed = requests.put(
        f"{url}/functions/packed",
        data=data,
        headers={
            "Authorization": f"Bearer {tokens[Scope.DEPLOY].text}",
            "Content-Type": "application/x-tar",
            "Content-Digest": digest_header(data),
        },
        timeout=60,
    )
    assert deployed.status_code == 201, deployed.text
    remote = Remote(f"{url}/artifacts", tokens[Scope.DEPLOY].text)
    remote.fetch(digest, remote.size_bytes(digest), tmp_path / "tar")
    assert (tmp_path / "tar").read_bytes() == data
    for token in (tokens[Scope.INVOKE].text, ""):
        with pytest.raises(ArtifactUnavailable, match="FUSEBOX_ARTIFACTS_KEY"):
            Remote(f"{url}/artifacts", token).size_bytes(digest)


def test_what_is_refused_by_head_leaves_its_connection_in_order(guarded: Gateway) -> None:
    """No body comes behind it, which would be taken for the next answer."""
    with guarded.connect() as client:
        for method in ("HEAD", "GET", "HEAD", "GET"):
            client.request(method, "/v1/artifacts/x.tar")
            answer = client.getresponse()
            body = answer.read()
            assert answer.status == 401
            assert int(answer.headers["Content-Length"]) > 0
            assert bool(body) == (method == "GET")
