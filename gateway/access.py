"""Who may pass: API keys, their scopes and their rates, in front of everything else.

The check is a WSGI middleware, because invocations pass Flask by; where the platform is open
(`Settings.is_guarded`) there is no middleware at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from contract.access import ApiKey, Scope, Token
from contract.errors import Forbidden, FuseboxError, RateLimited, Unauthorized
from contract.store.access import ApiKeys
from gateway.answer import STATUS_LINES, Header
from gateway.context import Gateway
from gateway.door import Door, Proof, bearer, door_at
from gateway.problems import translate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Where the id of the key stands that a request came with.
CALLER = "fusebox.caller"
# A key is asked for again after this; a revoked one is refused as late as that.
RECHECK_S = 1.0
# How coarse the time of the last use is.
USE_NOTED_S = 60.0
_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="fusebox"')
# What is the same for every installation, the probes, and the status page without its figures.
_OPEN = frozenset(
    {
        "/", "/docs", "/openapi.json", "/healthz", "/readyz",
        "/v2/health/live", "/v2/health/ready",
    }
)  # fmt: skip
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_FUNCTIONS, _INVOKE, _JOBS, _KEYS = "/v1/functions/", "/invoke", "/v1/jobs/", "/v1/keys"
_ARTIFACTS = "/v1/artifacts/"
_DEAD_LETTERS, _WEBHOOKS = "/v1/dead-letters", "/v1/webhooks"

Limit = Callable[[ApiKey], None]


def is_open(path: str, query: str = "") -> bool:
    """Whether this is answered without a key; figures of the status page are not."""
    return (path in _OPEN and not (path == "/" and query)) or path.startswith("/static/")


# what only those who deploy may read: their words and their models
_PRIVATE = ("/logs", "/graph")


def scope_of(method: str, path: str) -> Scope | None:
    """The scope that a key needs for this; None where any key does."""
    if path.startswith(_JOBS) or (
        method == "POST" and path.startswith(_FUNCTIONS) and path.endswith(_INVOKE)
    ):
        return Scope.INVOKE
    if path.startswith(_DEAD_LETTERS):
        # inputs and results of everybody
        return Scope.DEPLOY
    if path.startswith(_WEBHOOKS):
        return Scope.ADMIN
    if path.startswith(_ARTIFACTS):
        # whole models; what a worker needs, and no caller
        return Scope.DEPLOY
    if path.startswith(_FUNCTIONS):
        is_plain = method in _READS and not path.endswith(_PRIVATE)
        return None if is_plain else Scope.DEPLOY
    if path == _KEYS or path.startswith(f"{_KEYS}/"):
        return Scope.ADMIN
    # a route that this rule has not heard of: reading is for every key, the rest is not
    return None if method in _READS else Scope.ADMIN


class _Known(NamedTuple):
    key: ApiKey
    read_at_s: float


class Guard:
    """The API keys as this process remembers them."""

    def __init__(self, keys: ApiKeys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        # keys that exist, so their number is that of the store
        self._known: dict[str, _Known] = {}
        self._noted_at_s: dict[str, float] = {}

    def admit(self, shown: str | Proof, scope: Scope | None) -> ApiKey:
        """The key that a request shows ("": none) or proves; raises Unauthorized and Forbidden."""
        proof = shown if isinstance(shown, Proof) else _proof(shown)
        now_s = self._clock()
        key = self._find(proof.id, now_s)
        # an id is no secret: whether it exists may be told by time
        if key is None or not proof.is_of(key):
            raise Unauthorized("The API key is not valid; it may have been revoked.")
        if key.is_expired(now_s):
            raise Unauthorized("The API key has expired.", key=key.id)
        if not key.can(scope):
            raise Forbidden(f"The API key lacks the scope {scope}.", key=key.id, scope=str(scope))
        if now_s - self._noted_at_s.get(key.id, 0.0) >= USE_NOTED_S:
            self._noted_at_s[key.id] = now_s
            self._keys.note_use(key.id, now_s)
        return key

    def _find(self, key_id: str, now_s: float) -> ApiKey | None:
        known = self._known.get(key_id)
        if known is not None:
            if now_s - known.read_at_s < RECHECK_S:
                return known.key
            # others go on with what is known while this request asks
            self._known[key_id] = known._replace(read_at_s=now_s)
        try:
            key = self._keys.get(key_id)
        except FuseboxError:
            self._known.pop(key_id, None)
            raise
        if key is None:
            self._known.pop(key_id, None)
            self._noted_at_s.pop(key_id, None)
        else:
            self._known[key_id] = _Known(key, now_s)
        return key


def _proof(text: str) -> Proof:
    token = Token.parse(text)
    if token is None:
        raise Unauthorized("Authorization: expected `Bearer fb_<id>_<secret>`, an API key.")
    return Proof(token.id, lambda key: key.is_opened_by(token.secret))


def guarded(gateway: Gateway, app: WSGIApplication, doors: Sequence[Door] = ()) -> WSGIApplication:
    """The application behind the check, or as it is where the platform is open."""
    if not gateway.settings.is_guarded:
        return app
    # what it imports takes 90 ms, which an open platform saves
    from gateway.rates import Rates

    return _check(Guard(gateway.store.api_keys), Rates(gateway.store.server).hit, app, doors)


def _check(
    guard: Guard, limit: Limit, app: WSGIApplication, doors: Sequence[Door]
) -> WSGIApplication:
    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if not is_open(path, environ.get("QUERY_STRING", "")):
            door = door_at(path, doors)
            try:
                scope = (door.scope if door else scope_of)(environ["REQUEST_METHOD"], path)
                key = guard.admit((door.credential if door else bearer)(environ), scope)
                limit(key)
            except Exception as error:  # noqa: BLE001  # as Flask's own error handler does
                answer = (door.translate if door else translate)(error, path)
                start_response(
                    STATUS_LINES[answer.status], answer.wsgi_headers + _headers_of(error)
                )
                # a body behind the answer to HEAD would be read as the next answer
                return () if environ["REQUEST_METHOD"] == "HEAD" else (answer.body,)
            environ[CALLER] = key.id
        return app(environ, start_response)

    return call


def _headers_of(error: Exception) -> list[Header]:
    if isinstance(error, Unauthorized):
        return [_CHALLENGE]
    if isinstance(error, RateLimited):
        # draft-ietf-httpapi-ratelimit-headers
        limit, window_s = error.extensions["limit"], error.extensions["window_s"]
        wait_s = error.extensions["retry_after_ms"] // 1000
        return [
            ("RateLimit-Policy", f'"key";q={limit};w={window_s}'),
            ("RateLimit", f'"key";r=0;t={wait_s}'),
        ]
    return []


def caller_of(environ: Mapping[str, Any]) -> str:
    """The id of the key that a request came with, or "" on an open platform."""
    caller: str = environ.get(CALLER, "")
    return caller
