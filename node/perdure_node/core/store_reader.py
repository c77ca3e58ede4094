"""What the rules read of a partition's store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["StoreReader", "all_rows"]


class StoreReader(Protocol):
    """Rows by their keys. Raises `DamageFound` when they cannot be trusted."""

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        ...

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int = 1_000
    ) -> list[tuple[bytes, bytes]]:
        """Return rows whose keys begin with `prefix` and sort after `after`, in order."""
        ...


def all_rows(store: StoreReader, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all rows whose keys begin with `prefix`, in order, a page at a time."""
    after = b""
    while page := store.scan(prefix, after, 1_000):
        yield from page
        after = page[-1][0]
