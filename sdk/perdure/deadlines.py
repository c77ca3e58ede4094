"""Whose time is over: many deadlines, few of which are ever met."""

from __future__ import annotations

import heapq
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["Deadlines", "HasDeadline"]

_BUCKET_BITS: Final = 4
"""Deadlines are kept in buckets of 16 ms: nearly all calls end long before theirs, and taking one
out of a bucket costs the same however many there are."""


class HasDeadline(Protocol):
    """Something hashable by identity."""

    deadline_ms: int | None


T = TypeVar("T", bound=HasDeadline)


class Deadlines(Generic[T]):
    """Things by their deadline. Times are milliseconds of one clock."""

    __slots__ = ("_buckets", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[T, None]] = {}
        self._order: list[int] = []

    def add(self, thing: T) -> None:
        """Keep a thing until its deadline. Without one it is not kept."""
        if thing.deadline_ms is None:
            return
        number = thing.deadline_ms >> _BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {thing: None}
            heapq.heappush(self._order, number)
        else:
            bucket[thing] = None

    def discard(self, thing: T) -> None:
        """Forget a thing, wherever it is."""
        if thing.deadline_ms is not None:
            bucket = self._buckets.get(thing.deadline_ms >> _BUCKET_BITS)
            if bucket is not None:
                bucket.pop(thing, None)

    def take_due(self, now_ms: int) -> list[T]:
        """Take out what is due, earliest first, at most 16 ms late."""
        due: list[T] = []
        while self._order and (self._order[0] + 1) << _BUCKET_BITS <= now_ms:
            due += self._buckets.pop(heapq.heappop(self._order))
        return due

    @property
    def next_ms(self) -> int | None:
        """When to call `take_due` next."""
        return (self._order[0] + 1) << _BUCKET_BITS if self._order else None
