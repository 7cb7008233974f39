"""How often an API key may ask, over all gateway processes: the library `limits` on our store."""

from __future__ import annotations

import math
import time
from functools import lru_cache

from limits import parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from contract.access import ApiKey
from contract.errors import RateLimited, StoreUnavailable
from contract.store.server import Server

PREFIX = "fb:rate"
# the rates of keys in use; an entry is small, and the keys are their administrator's
_parse = lru_cache(1024)(parse)


class Rates:
    """The requests of every key with a rate, counted in the store over its own connections.

    Two counters per key, the last window's weighted by how much of it is still within reach: of a
    burst at the seam of two windows no more passes than the rate. One round trip per request.
    """

    def __init__(self, server: Server) -> None:
        storage = RedisStorage(
            "redis://",  # never connected to: the pool is the store's
            connection_pool=server.redis.connection_pool,
            key_prefix=PREFIX,
            wrap_exceptions=True,
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    def hit(self, key: ApiKey) -> None:
        """Count a request of this key; raises RateLimited."""
        if not key.rate:
            return
        item = _parse(key.rate)
        try:
            if self._limiter.hit(item, key.id):
                return
            until_s = self._limiter.get_window_stats(item, key.id).reset_time
        except StorageError as error:
            raise StoreUnavailable() from error
        wait_s = max(1, math.ceil(until_s - time.time()))
        raise RateLimited(
            f"The API key may ask {key.rate.replace('/', ' times per ')}.",
            key=key.id,
            rate=key.rate,
            retry_after_ms=wait_s * 1000,
            window_s=item.get_expiry(),
            limit=item.amount,
        )
