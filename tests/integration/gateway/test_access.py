"""API keys: who may ask for what, how often, and until when."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.access import Scope, Token, Wish, mint
from contract.settings import Settings
from contract.store import Store, open_store
from gateway.access import Guard
from gateway.app import create_app, gateway_of
from tests.integration.gateway.builders import FakeWorker, publish

URL = "/v1/functions/echo/invoke"
BODY = {"inputs": {"x": [[1.0, 2.5, -3.0, 4.0]]}}
ASYNC = {"Prefer": "respond-async"}
OPEN = ["/", "/docs", "/openapi.json", "/healthz", "/static/status.js", "/v2/health/live"]

Bearer = dict[str, str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A platform that listens on every address."""
    return replace(settings, host="0.0.0.0")


def bearer(token: Token) -> Bearer:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {token.text}"}


@pytest.fixture
def make_key(store: Store) -> Callable[..., Bearer]:
    """Makes a key in the store; its header."""

    def make(*scopes: Scope, **wish: object) -> Bearer:
        key, token = mint(Wish(scopes=scopes or (Scope.INVOKE,), **wish))  # type: ignore[arg-type]
        store.api_keys.add(key)
        return bearer(token)

    return make


def test_without_a_key_only_what_tells_nothing_is_answered(
    client: FlaskClient, store: Store
) -> None:
    """401 says how to show a key, before the body is looked at and before 404."""
    publish(store)
    for path in OPEN:
        with client.get(path) as answer:
            assert answer.status_code == 200, path
    assert client.get("/readyz").status_code == 503
    for method, path in [
        ("POST", URL),
        ("GET", "/v1/functions"),
        ("PUT", "/v1/functions/echo"),
        ("GET", "/v1/stats"),
        ("GET", "/metrics"),
        ("GET", "/?part"),
        ("GET", "/v1/keys"),
        ("GET", "/v1/nothing"),
        ("OPTIONS", "/v1/functions"),
    ]:
        answer = client.open(path, method=method, data=b"{")
        assert (answer.status_code, answer.json["code"]) == (401, "unauthorized"), path
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="fusebox"'
    assert store.telemetry.conservation().accepted == 0


def test_figures_are_not_on_the_page_that_everybody_sees(
    client: FlaskClient, store: Store, make_key: Callable[..., Bearer]
) -> None:
    """The status page comes without them and asks for a key; its part comes with one."""
    publish(store, "secret-model")
    page = client.get("/").text
    assert 'id="key"' in page
    assert "secret-model" not in page
    assert "secret-model" in client.get("/?part", headers=make_key()).text


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", URL, Scope.INVOKE),
        ("GET", f"/v1/jobs/{'0' * 24}", Scope.INVOKE),
        ("DELETE", f"/v1/jobs/{'0' * 24}", Scope.INVOKE),
        ("PUT", "/v1/functions/echo", Scope.DEPLOY),
        ("DELETE", "/v1/functions/echo", Scope.DEPLOY),
        ("GET", "/v1/functions/echo/logs", Scope.DEPLOY),
        ("GET", "/v1/functions/echo/graph", Scope.DEPLOY),
        ("GET", "/v1/keys", Scope.ADMIN),
        ("POST", "/v1/keys", Scope.ADMIN),
        ("DELETE", "/v1/keys/0123456789ab", Scope.ADMIN),
        ("POST", "/v1/keys/invoke", Scope.ADMIN),
        ("PUT", "/v1/functions", Scope.ADMIN),
        ("POST", "/v1/nothing", Scope.ADMIN),
    ],
)
def test_a_scope_opens_its_routes_and_no_others(
    client: FlaskClient, make_key: Callable[..., Bearer], method: str, path: str, scope: Scope
) -> None:
    """403 names the one that is missing; admin implies all."""
    for holder in Scope:
        answer = client.open(path, method=method, headers=make_key(holder))
        if holder in (scope, Scope.ADMIN):
            assert answer.status_code not in (401, 403), holder
        else:
            assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
            assert answer.json["scope"] == scope


def test_every_key_may_read_what_is_deployed_and_how_it_fares(
    client: FlaskClient, store: Store, make_key: Callable[..., Bearer]
) -> None:
    """Callers need the inputs of a function, operators its figures."""
    publish(store)
    for scope in Scope:
        key = make_key(scope)
        for path in ("/v1/functions", "/v1/functions/echo", "/v1/stats", "/v1/workers", "/metrics"):
            assert client.get(path, headers=key).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        "Basic Zm9vOmJhcg==",
        f"Bearer fb_{'0' * 12}_{'0' * 64}",
        f"Bearer fb_{'0' * 12}_{'0' * 63}",
    ],
)
def test_what_is_no_key_is_refused(client: FlaskClient, header: str) -> None:
    """And the answer does not repeat it."""
    answer = client.get("/v1/functions", headers={"Authorization": header})
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert "0" * 63 not in answer.text


def test_another_secret_is_refused(client: FlaskClient, store: Store) -> None:
    """Also once the key is known to the process."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    assert client.get("/v1/functions", headers=bearer(token)).status_code == 200
    wrong = token._replace(secret=token.secret[:-1] + ("0" if token.secret[-1] != "0" else "1"))
    assert client.get("/v1/functions", headers=bearer(wrong)).status_code == 401


def test_the_scheme_is_read_whatever_its_case(client: FlaskClient, store: Store) -> None:
    """RFC 9110: it is case-insensitive."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    headers = {"Authorization": f"bearer  {token.text}"}
    assert client.get("/v1/functions", headers=headers).status_code == 200


def test_keys_are_made_listed_and_revoked_over_http(
    client: FlaskClient, store: Store, make_key: Callable[..., Bearer]
) -> None:
    """The secret is in the first answer and nowhere else, least of all in the store."""
    admin = make_key(Scope.ADMIN)
    wish = {"name": "shop", "scopes": ["deploy", "invoke"], "rate": "5/second", "expires_in_s": 60}
    made = client.post("/v1/keys", json=wish, headers=admin)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"fb_[0-9a-f]{12}_[0-9a-f]{64}", made.json["key"])
    secret = made.json["key"].rpartition("_")[2]
    mine = {"Authorization": f"Bearer {made.json['key']}"}
    assert client.get("/v1/functions", headers=mine).status_code == 200

    listed = client.get("/v1/keys", headers=admin)
    [_, shown] = listed.json["keys"]
    assert (shown["name"], shown["scopes"], shown["rate"]) == (
        "shop",
        ["invoke", "deploy"],
        "5/second",
    )
    assert shown["last_used_at"] is not None
    assert shown["expires_at"] > shown["created_at"]
    stored = b"".join(store.server.redis.hvals("fb:keys"))
    assert secret not in listed.text
    assert secret.encode() not in stored

    path = f"/v1/keys/{made.json['id']}"
    assert client.delete(path, headers=admin).json["name"] == "shop"
    assert client.delete(path, headers=admin).json["code"] == "unknown_key"
    assert client.delete("/v1/keys/x", headers=admin).json["code"] == "unknown_key"
    assert [key["name"] for key in client.get("/v1/keys", headers=admin).json["keys"]] == [""]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": "admin"}, "scopes"),
        ({"scopes": [1]}, "scopes"),
        ({"rate": "often"}, "rate"),
        ({"rate": "0/second"}, "rate"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": True}, "expires_in_s"),
        ({"rate": None}, "rate"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"nmae": "x"}, "body"),
        ([], "body"),
    ],
)
def test_a_wrong_wish_is_refused_by_name(
    client: FlaskClient, make_key: Callable[..., Bearer], wish: object, field: str
) -> None:
    """422, and no key is made."""
    admin = make_key(Scope.ADMIN)
    answer = client.post("/v1/keys", json=wish, headers=admin)
    assert (answer.status_code, answer.json["field"]) == (422, field)
    assert client.post("/v1/keys", data=b"{", headers=admin).status_code == 400
    assert len(client.get("/v1/keys", headers=admin).json["keys"]) == 1


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class CountingKeys:
    """The keys of a store, and how often they were asked."""

    def __init__(self, store: Store) -> None:
        self._keys = store.api_keys
        self.reads, self.uses = 0, 0

    def get(self, key_id: str) -> object:
        """A key."""
        self.reads += 1
        return self._keys.get(key_id)

    def note_use(self, key_id: str, at_s: float) -> None:
        """A use."""
        self.uses += 1
        self._keys.note_use(key_id, at_s)


def test_a_key_is_remembered_for_a_second_and_revoked_within_one(store: Store) -> None:
    """A request costs no round trip, a revoked key lives no longer than that."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    clock, keys = Clock(), CountingKeys(store)
    guard = Guard(keys, clock)  # type: ignore[arg-type]  # as the store's
    for _ in range(100):
        assert guard.admit(token.text, Scope.INVOKE) == key
    assert (keys.reads, keys.uses) == (1, 1)
    store.api_keys.revoke(key.id)
    clock.now_s += 0.9
    assert guard.admit(token.text, Scope.INVOKE) == key
    clock.now_s += 0.2
    for _ in range(2):
        with pytest.raises(Exception, match="not valid"):
            guard.admit(token.text, Scope.INVOKE)
    assert keys.uses == 1


def test_the_last_use_is_noted_once_a_minute(store: Store) -> None:
    """And a use that is noted late does not bring a revoked key back."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    clock, keys = Clock(), CountingKeys(store)
    guard = Guard(keys, clock)  # type: ignore[arg-type]  # as the store's
    for _ in range(5):
        guard.admit(token.text, None)
        clock.now_s += 30
    assert keys.uses == 3
    assert [use.used_at_s for use in store.api_keys.all()] == [1_000_120.0]
    store.api_keys.revoke(key.id)
    store.api_keys.note_use(key.id, clock.now_s)
    assert store.server.redis.hgetall("fb:keys:used") == {}


def test_an_expired_key_is_refused(store: Store) -> None:
    """From the moment it ends, also while it is remembered."""
    key, token = mint(Wish(expires_in_s=100))
    store.api_keys.add(key)
    clock = Clock()
    clock.now_s = key.created_at_s + 99.9
    guard = Guard(store.api_keys, clock)
    guard.admit(token.text, None)
    clock.now_s += 0.2
    with pytest.raises(Exception, match="expired"):
        guard.admit(token.text, None)


def test_a_rate_holds_over_all_gateways(
    app: Flask, settings: Settings, store: Store, make_key: Callable[..., Bearer]
) -> None:
    """429 says when to come again, and other keys are not touched."""
    publish(store)
    other = create_app(settings, store).test_client()
    first = app.test_client()
    limited, free = make_key(rate="10/hour"), make_key()
    statuses = [
        client.get("/v1/functions", headers=limited).status_code
        for _ in range(10)
        for client in (first, other)
    ]
    assert statuses == [200] * 10 + [429] * 10
    answer = first.post(URL, json=BODY, headers=limited)
    assert (answer.status_code, answer.json["code"]) == (429, "rate_limited")
    wait_s = int(answer.headers["Retry-After"])
    assert 0 < wait_s <= 3600
    assert answer.json["retry_after_ms"] == wait_s * 1000
    assert answer.headers["RateLimit-Policy"] == '"key";q=10;w=3600'
    assert answer.headers["RateLimit"] == f'"key";r=0;t={wait_s}'
    assert first.get("/v1/functions", headers=free).status_code == 200


def test_idempotency_keys_of_two_callers_do_not_meet(
    client: FlaskClient, store: Store, make_key: Callable[..., Bearer]
) -> None:
    """The same key is another one for another caller."""
    publish(store)
    keyed = ASYNC | {"Idempotency-Key": '"1"'}
    one, other = make_key(), make_key()
    jobs = [
        client.post(URL, json=BODY, headers=keyed | caller).json["job"]
        for caller in (one, other, one)
    ]
    assert jobs[0] == jobs[2] != jobs[1]


def test_a_key_never_stands_in_a_log(
    client: FlaskClient,
    store: Store,
    worker: FakeWorker,
    make_key: Callable[..., Bearer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in the gateway's, whatever fails, nor in the function's payload."""
    publish(store)
    key = make_key(Scope.INVOKE)
    secret = key["Authorization"].rpartition("_")[2]
    payloads: list[bytes] = []
    compute = worker.compute
    worker.compute = lambda fetched: (payloads.append(fetched.payload), compute(fetched))[1]
    logger = logging.getLogger("fusebox")
    logger.addHandler(caplog.handler)
    try:
        assert client.post(URL, json=BODY, headers=key).status_code == 200
        store.server.redis.hset("fb:function:broken", mapping={"latest": "1", "v:1": "{"})
        broken = client.get("/v1/functions/broken", headers=key)
    finally:
        logger.removeHandler(caplog.handler)
    assert (broken.status_code, broken.json["code"]) == (500, "internal")
    assert "request_failed" in caplog.text
    assert secret not in caplog.text + broken.text
    assert secret.encode() not in b"".join(payloads)


def test_a_store_that_does_not_answer_lets_nobody_in(settings: Settings, tmp_path: Path) -> None:
    """503: a key that cannot be looked up is neither good nor bad."""
    with closing(open_store(f"unix://{tmp_path}/nobody")) as dead:
        client = create_app(settings, dead).test_client()
        answer = client.get("/v1/functions", headers=bearer(mint(Wish())[1]))
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")


def test_the_description_says_what_a_key_needs(client: FlaskClient) -> None:
    """Each operation its scope, none those that are open."""
    api = client.get("/openapi.json").json
    paths = api["paths"]
    assert api["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert paths["/v1/functions/{name}/invoke"]["post"]["security"] == [{"key": ["invoke"]}]
    assert paths["/v1/functions/{name}"]["put"]["security"] == [{"key": ["deploy"]}]
    assert paths["/v1/functions/{name}"]["get"]["security"] == [{"key": []}]
    assert paths["/v1/keys"]["get"]["security"] == [{"key": ["admin"]}]
    assert paths["/healthz"]["get"]["security"] == []
    assert {"401", "403", "429"} <= paths["/v1/functions"]["get"]["responses"].keys()


@pytest.fixture
def open_app(settings: Settings, store: Store) -> Iterator[Flask]:
    """A platform on every address that is told to be open."""
    app = create_app(replace(settings, auth="off"), store)
    yield app
    gateway_of(app).replies.close()


def test_an_open_platform_asks_nobody(open_app: Flask, store: Store) -> None:
    """Not even for keys, and its description has no security."""
    publish(store)
    client = open_app.test_client()
    assert client.post(URL, json=BODY, headers=ASYNC).status_code == 202
    assert client.get("/v1/keys").json == {"keys": []}
    api = client.get("/openapi.json").json
    assert not any("security" in op for item in api["paths"].values() for op in item.values())


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/models", None),
        ("POST", "/v2/repository/index", None),
        ("POST", "/v2/models/echo/infer", Scope.INVOKE),
        ("POST", "/v2/repository/models/nope/unload", Scope.DEPLOY),
        ("POST", "/v1/functions/nope/load", Scope.DEPLOY),
        ("POST", "/v2/logging", Scope.ADMIN),
    ],
)
def test_the_v2_door_asks_for_keys_in_its_own_words(
    client: FlaskClient,
    make_key: Callable[..., Bearer],
    method: str,
    path: str,
    scope: Scope | None,
) -> None:
    """The same scopes as elsewhere; refusals are what its clients read."""
    refused = client.open(path, method=method)
    assert refused.status_code == 401
    if path.startswith("/v2"):
        assert (refused.content_type, list(refused.json)) == ("application/json", ["error"])
    for holder in Scope:
        answer = client.open(path, method=method, headers=make_key(holder))
        is_enough = scope is None or holder in (scope, Scope.ADMIN)
        assert (answer.status_code != 403) == is_enough, holder


def test_the_description_of_a_guarded_platform_has_the_doors_refusals(client: FlaskClient) -> None:
    """Roles and bodies of 401 and 403, by the rule that guards the routes."""
    paths = client.get("/openapi.json").json["paths"]
    infer = paths["/v2/models/{model}/infer"]["post"]
    assert infer["security"] == [{"key": ["invoke"]}]
    assert list(infer["responses"]["401"]["content"]) == ["application/json"]
    assert paths["/v2/health/live"]["get"]["security"] == []
    native = paths["/v1/functions/{name}/load"]["post"]
    assert native["security"] == [{"key": ["deploy"]}]
    assert list(native["responses"]["401"]["content"]) == ["application/problem+json"]
