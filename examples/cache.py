"""A cache that survives restarts, with an index that lives in memory only.

    python examples/cache.py

Attributes that begin with `_` are not stored. `on_activate` rebuilds them whenever the
object comes into memory.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from perdure import DurableObject, durable


@durable.object
class Cache(DurableObject):
    entries_max = 1_000

    def __init__(self, cache_id: str) -> None:
        super().__init__(cache_id)
        self.entries: dict[str, tuple[Any, datetime]] = {}
        self.hits = 0
        self.misses = 0
        self._by_expiry: list[tuple[datetime, str]] = []

    async def on_activate(self) -> None:
        self._by_expiry = sorted((expiry, key) for key, (_, expiry) in self.entries.items())

    async def put(self, key: str, value: Any, ttl_s: float = 3_600.0) -> None:
        expiry = datetime.now(UTC) + timedelta(seconds=ttl_s)
        self.entries[key] = (value, expiry)
        self._by_expiry.append((expiry, key))
        self._by_expiry.sort()
        self._evict()
        await self.save()

    async def get(self, key: str, default: Any = None) -> Any:
        value, expiry = self.entries.get(key, (default, None))
        if expiry is None or expiry <= datetime.now(UTC):
            self.misses += 1
            return default
        self.hits += 1
        return value

    async def invalidate(self, prefix: str = "") -> int:
        dead = [key for key in self.entries if key.startswith(prefix)]
        for key in dead:
            del self.entries[key]
        await self.save()
        return len(dead)

    def _evict(self) -> None:
        now = datetime.now(UTC)
        while self._by_expiry:
            expiry, key = self._by_expiry[0]
            if expiry > now and len(self.entries) <= self.entries_max:
                break
            del self._by_expiry[0]
            # A key that was put again has a later expiry of its own.
            if self.entries.get(key, (None, None))[1] == expiry:
                del self.entries[key]


async def main() -> None:
    cache = await Cache.get_or_create("exchange_rates")
    rate = await cache.get("EUR/USD")
    if rate is None:
        print("not there: asking the bank")
        await cache.put("EUR/USD", 1.17, ttl_s=60)
    else:
        print("from the cache:", rate)
    print(f"{cache.hits} hits, {cache.misses} misses; run me again within a minute")


if __name__ == "__main__":
    asyncio.run(main())
