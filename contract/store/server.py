"""The connection to Redis: scripts, pipelines, and errors in the platform's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from contract.errors import StoreUnavailable
from contract.log import Log

log = Log("store")
SOCKET_TIMEOUT_S = 5.0
# Every script is idempotent (by job id, group or fence), so that a retry is safe.
RETRIES = 3
Argument = str | bytes | int | float


class Server:
    """A Redis or Valkey server, its scripts loaded by name."""

    def __init__(self, redis_url: str) -> None:
        self.url = redis_url
        self.redis = self._client(SOCKET_TIMEOUT_S)
        self._scripts: dict[str, Script] = {}

    def _client(self, socket_timeout_s: float | None) -> redis.Redis:
        return redis.Redis.from_url(
            self.url,
            socket_timeout=socket_timeout_s,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), RETRIES),
            health_check_interval=0,
        )

    def blocking(self) -> redis.Redis:
        """A client of its own for commands that block; its caller closes it."""
        return self._client(None)

    def run(self, script: str, args: Sequence[Argument]) -> Any:
        """Run `contract/lua/<script>.lua`; raises StoreUnavailable."""
        with store_errors():
            return self._script(script)(args=args)

    def ping(self) -> None:
        """Raise StoreUnavailable unless the server answers."""
        with store_errors():
            self.redis.ping()

    def close(self) -> None:
        """Close every pooled connection."""
        self.redis.close()

    def _script(self, name: str) -> Script:
        script = self._scripts.get(name)
        if script is None:
            folder = resources.files("contract") / "lua"
            source = (folder / "lib.lua").read_text() + (folder / f"{name}.lua").read_text()
            script = self._scripts[name] = self.redis.register_script(source)
        return script


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what means "not now" into StoreUnavailable; other Redis errors are bugs and stay."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError) as error:
        log.warning("store_unavailable", reason=error)
        raise StoreUnavailable() from error
    except RedisError as error:
        # inside a script the server reports a full memory as a script error
        if "OOM " in str(error):
            log.warning("store_full", reason=error)
            raise StoreUnavailable("The job store is full, so nothing was accepted.") from error
        raise
