"""What the rules read of a partition's store."""

from __future__ import annotations

from typing import Protocol

__all__ = ["StoreReader"]


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
