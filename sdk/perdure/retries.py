"""Calls that wait a little before they are sent again."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

from perdure.open_call import OpenCall

__all__ = ["Retries"]

T = TypeVar("T")


class Retries(Generic[T]):
    """Calls by the time at which they are due.

    Invariant: a call waits here exactly while its `retry_ms` is set. Entries of calls that ended,
    or were put forward, stay behind in the heap until their time.
    """

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, OpenCall[T]]] = []
        self._count = 0

    def add(self, call: OpenCall[T], due_ms: int) -> None:
        """Keep a call until `due_ms`, or until the earlier time that it has already."""
        if call.retry_ms is None or due_ms < call.retry_ms:
            call.retry_ms = due_ms
            self._count += 1
            heapq.heappush(self._heap, (due_ms, self._count, call))

    def take_due(self, now_ms: int) -> list[OpenCall[T]]:
        """Take out the calls whose time has come and that have not ended."""
        due: list[OpenCall[T]] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ms:
            due_ms, _, call = heapq.heappop(heap)
            if call.retry_ms == due_ms and not call.ended:
                call.retry_ms = None
                due.append(call)
        return due

    def clear(self) -> None:
        """Forget all: every open call is about to be sent again anyway."""
        for _, _, call in self._heap:
            call.retry_ms = None
        self._heap.clear()

    @property
    def next_ms(self) -> int | None:
        """When to call `take_due` next."""
        return self._heap[0][0] if self._heap else None
