"""The ids of all objects of a type, in order, out of the pages of all partitions."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator

from perdure.call import Call
from perdure.codec import decode
from perdure.context import Caller
from perdure.frames import Kind, Reply
from perdure.handle import TIMEOUT_S
from perdure.ids import ObjectKey
from perdure.remote import current_caller
from perdure.runtime import current_client

__all__ = ["list_ids"]


class _Pages:
    """What one partition has, page by page."""

    def __init__(self, caller: Caller, target: ObjectKey, partition: int) -> None:
        self._caller = caller
        self._target = target
        self._partition = partition
        self._ids: deque[str] = deque()
        self._call: Call[tuple[list[str], bool]] | None = self._ask("")

    async def next(self) -> str | None:
        """Return the next id, or None after the last."""
        while not self._ids:
            if self._call is None:
                return None
            ids, more = await self._call
            self._ids.extend(ids)
            # The next page is on its way while this one is being read.
            self._call = self._ask(ids[-1]) if more and ids else None
        return self._ids.popleft()

    def _ask(self, after: str) -> Call[tuple[list[str], bool]]:
        future = self._caller.call(
            self._target, Kind.LIST, after, timeout_s=TIMEOUT_S, partition=self._partition
        )
        return Call(f"durable.list({self._target.type})", future, _page)


async def list_ids(type_name: str, prefix: str) -> AsyncIterator[str]:
    """Iterate over the ids of a type's stored objects, by their UTF-8 bytes.

    Holds one page of each partition at a time, and the next one on its way.
    """
    caller = current_caller()
    if caller.partition_count is None:
        await current_client().connected(TIMEOUT_S)
    count = caller.partition_count
    assert count is not None
    target = ObjectKey(type_name, prefix)
    pages = [_Pages(caller, target, partition) for partition in range(count)]
    heads: list[tuple[str, int]] = []
    for partition, its_pages in enumerate(pages):
        first = await its_pages.next()
        if first is not None:
            heads.append((first, partition))
    heapq.heapify(heads)
    while heads:
        # Text compares by code points, which is the order of its UTF-8 bytes.
        object_id, partition = heads[0]
        yield object_id
        following = await pages[partition].next()
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following, partition))


def _page(reply: Reply) -> tuple[list[str], bool]:
    ids, more = decode(reply.payload)
    return ids, more
