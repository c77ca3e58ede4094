"""Records between their making and the disk: what waits, and what goes together."""

from __future__ import annotations

from collections import deque

__all__ = ["Batch", "Waiting"]


class Batch:
    """Records on their way to the disk: the body of the next group."""

    __slots__ = ("lasts", "parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.lasts: dict[int, int] = {}
        """The last sequence of each partition that has a record here."""


class Waiting:
    """The records of all partitions that are not on their way yet, in order."""

    __slots__ = ("_batch", "_bytes_max", "_full", "position")

    def __init__(self, position: int, bytes_max: int) -> None:
        """Begin.

        Args:
            position: Of the first record, among all bodies of the journal.
            bytes_max: A batch takes no more, unless it is a single record.
        """
        self._bytes_max = bytes_max
        self._batch = Batch()
        self._full: deque[Batch] = deque()
        self.position = position
        """Of the next record."""

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._full) or self._batch.size > 0

    def add(self, partition: int, sequence: int, prefix: bytes, chain: bytes, body: bytes) -> int:
        """Add a record, and return its position."""
        batch = self._batch
        size = len(prefix) + len(chain) + len(body)
        if batch.size and batch.size + size > self._bytes_max:
            self._full.append(batch)
            batch = self._batch = Batch()
        parts = batch.parts
        parts.append(prefix)
        parts.append(chain)
        parts.append(body)
        batch.size += size
        batch.lasts[partition] = sequence
        position = self.position
        self.position = position + size
        return position

    def take(self) -> Batch | None:
        """Take the next batch; None: there is nothing to write."""
        if self._full:
            return self._full.popleft()
        if not self._batch.size:
            return None
        batch, self._batch = self._batch, Batch()
        return batch
