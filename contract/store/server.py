"""The connection to Redis: scripts, commands, and errors in the platform's words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, NamedTuple

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from contract.errors import StoreUnavailable
from contract.log import Log
from contract.store.link import Argument, Command, Connection, Link

log = Log("store")
SOCKET_TIMEOUT_S = 5.0
# Every script is idempotent (by job id, group or fence), so that a retry is safe.
RETRIES = 3
# of one process; gateways read jobs side by side
MAX_CONNECTIONS = 1000

# These bring data into the store; a store without memory refuses them and goes on with the others,
# which end the jobs it has and so make room again.
TAKES_IN = frozenset({"enqueue", "publish", "trigger_put", "progress"})
IN_A_FULL_STORE = b"#!lua flags=allow-oom\n"
# What the server calls being unable to write: its memory or its disk is full.
_FULL = ("OOM ", "command not allowed when used memory", "MISCONF ")


class _Script(NamedTuple):
    source: bytes
    digest: str


class Server:
    """A Redis or Valkey server, its scripts loaded by name."""

    def __init__(self, redis_url: str) -> None:
        self.url = redis_url
        # for what is rare; jobs go over the link
        self.redis = redis.Redis.from_url(
            redis_url, **_options(SOCKET_TIMEOUT_S), max_connections=MAX_CONNECTIONS
        )
        self._link = self._connect(SOCKET_TIMEOUT_S)
        self._scripts: dict[str, _Script] = {}

    def _connect(self, socket_timeout_s: float | None) -> Link:
        options = _options(socket_timeout_s) | {"protocol": 3}
        return Link(redis.ConnectionPool.from_url(self.url, **options), _retry())

    def blocking(self) -> Link:
        """A link of its own for commands that block; its caller closes it."""
        return self._connect(None)

    def subscriber(self) -> Connection:
        """A connection of its own, which reads what is published to it; its caller ends it."""
        options = _options(None) | {"protocol": 2}
        return redis.ConnectionPool.from_url(self.url, **options).make_connection()

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands sent together, not atomically; raises StoreUnavailable."""
        with store_errors():
            return self._link.call_all(commands)

    def run(self, script: str, args: Sequence[Argument]) -> Any:
        """Run `contract/lua/<script>.lua`; raises StoreUnavailable."""
        source, digest = self._script(script)
        with store_errors():
            try:
                return self._link.call("EVALSHA", digest, 0, *args)
            except NoScriptError:
                # a server that has restarted knows no scripts
                return self._link.call("EVAL", source, 0, *args)

    def ping(self) -> None:
        """Raise StoreUnavailable unless the server answers."""
        with store_errors():
            self.redis.ping()

    def close(self) -> None:
        """Close every connection."""
        self._link.close()
        self.redis.close()

    def _script(self, name: str) -> _Script:
        script = self._scripts.get(name)
        if script is None:
            folder = resources.files("contract") / "lua"
            parts = [folder / "lib.lua", folder / f"{name}.lua"]
            head = b"" if name in TAKES_IN else IN_A_FULL_STORE
            source = head + b"".join(part.read_bytes() for part in parts)
            # Redis names scripts so
            digest = hashlib.sha1(source, usedforsecurity=False).hexdigest()
            script = self._scripts[name] = _Script(source, digest)
        return script


def _options(socket_timeout_s: float | None) -> dict[str, Any]:
    return {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "retry": _retry(),
        "health_check_interval": 0,
    }


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), RETRIES)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what means "not now" into StoreUnavailable; other Redis errors are bugs and stay."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, ReadOnlyError) as error:
        log.warning("store_unavailable", reason=error)
        raise StoreUnavailable() from error
    except RedisError as error:
        # redis-py has a class for the first of them only, and not inside scripts
        if any(words in str(error) for words in _FULL):
            log.warning("store_full", reason=error)
            raise StoreUnavailable("The job store is full, so nothing was accepted.") from error
        raise
